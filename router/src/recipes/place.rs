//! Where a recipe keeps its keys.

use bytes::Bytes;

/// The directory of one `kind` of thing with a name: `/@kind/name/`. It has two segments, so by default all
/// that is in it is in one group. What would end a segment, or stands for itself here, is percent-encoded
/// in the name.
pub(crate) fn directory(kind: &str, name: &str) -> Bytes {
    let mut directory = String::with_capacity(kind.len() + name.len() + 4);
    directory.push_str("/@");
    directory.push_str(kind);
    directory.push('/');
    push_segment(&mut directory, name);
    directory.push('/');
    directory.into()
}

fn push_segment(out: &mut String, name: &str) {
    for letter in name.chars() {
        match letter {
            '/' => out.push_str("%2F"),
            '%' => out.push_str("%25"),
            letter => out.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::directory;

    #[test]
    fn a_name_is_one_segment() {
        assert_eq!(directory("lock", "a"), "/@lock/a/");
        assert_eq!(directory("lock", "a/b%2F"), "/@lock/a%2Fb%252F/");
    }
}
