//! Frozen bytes: they are in logs and on disks. If one of these fails, the code is
//! wrong, never the bytes.

use caucus_ring::{GroupId, Revision, Roles, Rule, RuleEntry};

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check(command: Command, expected: &str) {
    assert_eq!(hex(&command.encode()), expected, "{command:?}");
    assert_eq!(Command::decode(&command.encode()), Ok(command));
}

fn entry(prefix: &str, rule: Rule) -> RuleEntry {
    RuleEntry {
        prefix: prefix.as_bytes().to_vec(),
        rule,
    }
}

#[test]
fn init_cluster() {
    let mut command = init();
    command.rules = vec![entry("/a/", Rule::Tag)];
    check(
        Command::InitCluster(command),
        "0a420a1f0a10010101010101010101010101010101011008180220032880d095ffbc311206080110\
         011801120608021002180112060803100318011a070a032f612f1004",
    );
}

#[test]
fn register_node() {
    let mut command = register(5, 6);
    command.roles = Roles {
        router: false,
        ..Roles::ALL
    };
    check(
        Command::RegisterNode(command),
        "122d0a1908051207686f7374363a311a07686f7374363a3222017a28061210060606060606060606\
         06060606060606",
    );
}

#[test]
fn create_groups() {
    check(
        Command::CreateGroups(groups()),
        "1a420a1f08011206080410011801120608051002180112060806100318011a0300000f0a1f080212\
         06080710021801120608081003180112060809100118011a030000f0",
    );
}

#[test]
fn activate_group() {
    check(Command::ActivateGroup(GroupId(3)), "2003");
}

#[test]
fn set_rules() {
    let entries = vec![
        entry("/a/", Rule::Segments(3)),
        entry("/b/", Rule::Directory),
        entry("/c/", Rule::WholeKey),
        entry("/d/", Rule::Tag),
    ];
    check(
        Command::SetRules(SetRules {
            expected_version: 2,
            entries,
        }),
        "2a28080212090a032f612f1001180312070a032f622f100212070a032f632f100312070a032f642f\
         1004",
    );
}

#[test]
fn raise_ceiling() {
    check(Command::RaiseCeiling(Revision(1 << 40)), "30808080808020");
}

#[test]
fn the_whole_catalog() {
    let catalog = grouped();
    assert_eq!(
        hex(&catalog.encode()),
        "0806121f0a10010101010101010101010101010101011008180220032880d095ffbc311a00222d0a\
         1908011207686f7374313a311a07686f7374313a3222017a28071210010101010101010101010101\
         01010101222d0a1908021207686f7374323a311a07686f7374323a3222017a280712100202020202\
         0202020202020202020202222d0a1908031207686f7374333a311a07686f7374333a3222017a2807\
         1210030303030303030303030303030303032a1c080110021a060804100118011a06080510021801\
         1a060806100318012a1c080210011a060807100218011a060808100318011a060809100118013206\
         080110011801320608021002180132060803100318013a08010101010202020240044803500a"
    );
    assert_eq!(hex(&Catalog::new().encode()), "");
}

#[test]
fn broken_catalogs_are_not_read() {
    let bytes = grouped().encode();
    assert!(Catalog::decode(&bytes, Revision(0)).is_ok());
    let cut = &bytes[..bytes.len() - 2];
    assert!(matches!(
        Catalog::decode(cut, Revision(0)),
        Err(DecodeError::Broken(_))
    ));
    assert!(Command::decode(&[]).is_err());
}
