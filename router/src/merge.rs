//! Pages of one listing, one from each group, merged into one page. Pure.

use bytes::Bytes;
use caucus_api::range::prefix_end;
use caucus_api::shard::{Item, Listed};

/// Items in ascending order, and where the next page starts.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Merged {
    /// Keys with their records; folded prefixes without.
    pub(crate) items: Vec<Item>,
    /// The first key that the next page can hold; `None`: this was the last.
    pub(crate) next: Option<Bytes>,
}

/// Merges pages that each begin at the same start. A group whose page says `more` has said nothing
/// of keys after its last item, so the merged page ends there at the latest. A prefix that several
/// groups folded comes once.
///
/// `None`: a page promises more and holds nothing, which would never end.
pub(crate) fn merge(pages: Vec<Listed>, limit: usize) -> Option<Merged> {
    let mut certain: Option<Bytes> = None;
    for page in pages.iter().filter(|page| page.more) {
        let last = &page.items.last()?.key;
        if certain.as_ref().is_none_or(|certain| last < certain) {
            certain = Some(last.clone());
        }
    }
    let is_certain = |item: &Item| certain.as_ref().is_none_or(|last| item.key <= *last);
    let mut items: Vec<Item> = Vec::new();
    let mut cut = certain.is_some();
    if pages.len() == 1 {
        items = pages.into_iter().next()?.items;
    } else {
        let all: usize = pages.iter().map(|page| page.items.len()).sum();
        items.reserve(all.min(limit.saturating_add(1)));
        let mut pages: Vec<_> = pages
            .into_iter()
            .map(|page| page.items.into_iter())
            .collect();
        // A handful of groups: looking at each head is faster than a heap of them.
        while items.len() <= limit {
            let heads = pages.iter().enumerate();
            let smallest = heads
                .filter_map(|(index, page)| Some((&page.as_slice().first()?.key, index)))
                .min();
            let Some((_, index)) = smallest else { break };
            let Some(item) = pages[index].next() else {
                break;
            };
            if !is_certain(&item) {
                break;
            }
            let seen = items.last().is_some_and(|last| last.key == item.key);
            if !seen {
                items.push(item);
            }
        }
    }
    if items.len() > limit {
        items.truncate(limit);
        cut = true;
    }
    let next = match items.last() {
        Some(last) if cut => after(last),
        Some(_) | None => None,
    };
    Some(Merged { items, next })
}

/// The first key after an item and all that is folded into it; `None` if there can be none.
fn after(item: &Item) -> Option<Bytes> {
    if item.record.is_some() {
        let mut key = item.key.to_vec();
        key.push(0);
        return Some(key.into());
    }
    prefix_end(&item.key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use caucus_api::shard::Record;

    /// `a b c/` is two keys and a folded prefix; a `+` at the end says that more follow.
    fn page(text: &str) -> Listed {
        let mut words: Vec<&str> = text.split_whitespace().collect();
        let more = words.last() == Some(&"+");
        if more {
            words.pop();
        }
        let items = words
            .into_iter()
            .map(|word| Item {
                key: Bytes::copy_from_slice(word.as_bytes()),
                record: (!word.ends_with('/')).then(Record::default),
            })
            .collect();
        Listed {
            items,
            more,
            ..Listed::default()
        }
    }

    fn check(pages: &[&str], limit: usize, items: &str, next: Option<&str>) {
        let merged = merge(pages.iter().map(|text| page(text)).collect(), limit).unwrap();
        let keys: Vec<_> = merged.items.iter().map(|item| item.key.clone()).collect();
        let expected: Vec<_> = page(items).items.into_iter().map(|i| i.key).collect();
        assert_eq!(keys, expected, "{pages:?} limit {limit}");
        let next = next.map(|next| Bytes::copy_from_slice(next.as_bytes()));
        assert_eq!(merged.next, next, "{pages:?} limit {limit}");
    }

    #[test]
    fn pages_merge_in_order() {
        check(&[], 10, "", None);
        check(&["a c", "b d", ""], 10, "a b c d", None);
        check(&["a c", "b d"], 4, "a b c d", None);
        check(&["a c", "b d"], 3, "a b c", Some("c\0"));
        check(&["a b c"], 2, "a b", Some("b\0"));
        check(&["a b +"], 2, "a b", Some("b\0"));
    }

    #[test]
    fn nothing_is_certain_after_a_page_that_has_more() {
        check(&["a b +", "c d"], 10, "a b", Some("b\0"));
        check(&["a e +", "b c +", "d"], 10, "a b c", Some("c\0"));
        assert_eq!(merge(vec![page("+"), page("a")], 10), None);
    }

    #[test]
    fn a_prefix_folded_by_several_groups_comes_once() {
        check(&["a/ b/", "a/ c"], 10, "a/ b/ c", None);
        check(&["a/ b/", "a/ c"], 2, "a/ b/", Some("b0"));
        check(&["a/ +", "a/ b"], 10, "a/", Some("a0"));
    }
}
