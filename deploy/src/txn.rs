//! `caucus txn`: a transaction from a file, or from short forms on the command line; `caucus compact`.

use std::io::Read as _;
use std::path::PathBuf;

use hyper::Method;
use hyper::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};

use crate::endpoints::{Ask, Cluster};
use crate::fatal::Fatal;
use crate::output::Form;

/// Options of `caucus txn`.
///
/// Either a FILE of JSON, the body of `POST /v1/txn`, or short forms:
///
///   --if 'version(/a) = 0'     version, create_revision, revision, number, count, value; = != < >
///   --then 'put /a 1'          put KEY VALUE, get KEY, delete KEY, increment KEY N, append KEY TEXT
///   --else 'get /dir/*'        a key that ends in * stands for all that begin so
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The transaction as JSON; `-` is standard input.
    #[arg(conflicts_with_all = ["compares", "then", "otherwise"])]
    file: Option<PathBuf>,

    /// What must hold; all of them must.
    #[arg(long = "if", value_name = "COMPARE")]
    compares: Vec<String>,

    /// What is done if all hold.
    #[arg(long, value_name = "OPERATION")]
    then: Vec<String>,

    /// What is done otherwise.
    #[arg(long = "else", value_name = "OPERATION")]
    otherwise: Vec<String>,

    /// End with 1 if it was executed, and what must hold didn't.
    #[arg(long)]
    check: bool,

    /// However often it is sent with this name, it is executed once.
    #[arg(long, value_name = "NAME")]
    idempotency_key: Option<String>,

    #[command(flatten)]
    cluster: Cluster,

    /// Form of the answer.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

/// Sends it, and prints what it did.
pub(crate) async fn run(args: Args) -> Result<(), Fatal> {
    let body = match &args.file {
        Some(file) => read(file)?,
        None => of_short_forms(&args)
            .map_err(Fatal::setup)?
            .to_string()
            .into_bytes(),
    };
    let mut ask = Ask::new(Method::POST, "/v1/txn".to_owned());
    ask = ask.header(CONTENT_TYPE, "application/json")?;
    if let Some(name) = &args.idempotency_key {
        let header = hyper::header::HeaderName::from_static("idempotency-key");
        ask = ask.header(header, name)?;
    }
    let answer = args
        .cluster
        .connect()?
        .send_for_json(&ask.body(body))
        .await?;
    args.output.print(&answer)?;
    match args.check && answer["succeeded"] == json!(false) {
        true => Err(Fatal::failed("what had to hold does not")),
        false => Ok(()),
    }
}

fn read(file: &PathBuf) -> Result<Vec<u8>, Fatal> {
    let mut text = Vec::new();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().lock().read_to_end(&mut text).map(|_| text),
        false => std::fs::read(file),
    };
    read.map_err(|error| Fatal::setup(format!("{}: {error}", file.display())))
}

fn of_short_forms(args: &Args) -> Result<Value, String> {
    let compares = args.compares.iter().map(|text| compare(text));
    let operations = |texts: &[String]| -> Result<Vec<Value>, String> {
        texts.iter().map(|text| operation(text)).collect()
    };
    let (then, otherwise) = (operations(&args.then)?, operations(&args.otherwise)?);
    if then.is_empty() && otherwise.is_empty() {
        return Err("give a FILE, or --then or --else".to_owned());
    }
    Ok(json!({
        "if": compares.collect::<Result<Vec<_>, _>>()?,
        "then": then,
        "else": otherwise,
    }))
}

/// `FIELD(KEY) IS VALUE`.
fn compare(text: &str) -> Result<Value, String> {
    const FIELDS: [&str; 6] = [
        "version",
        "create_revision",
        "revision",
        "number",
        "count",
        "value",
    ];
    let wrong = || format!("--if wants FIELD(KEY) = VALUE with one of = != < >, not `{text}`");
    let (field, rest) = text.split_once('(').ok_or_else(wrong)?;
    let (key, rest) = rest.rsplit_once(')').ok_or_else(wrong)?;
    let rest = rest.trim();
    let is = ["!=", "=", "<", ">"]
        .into_iter()
        .find(|is| rest.starts_with(is));
    let is = is.ok_or_else(wrong)?;
    let field = field.trim();
    if !FIELDS.contains(&field) {
        return Err(format!(
            "--if compares {}, not `{field}`",
            FIELDS.join(", ")
        ));
    }
    let text = rest[is.len()..].trim();
    let value: Value = match (field, serde_json::from_str(text)) {
        (_, Ok(value)) => value,
        ("value", Err(_)) => Value::from(text),
        (_, Err(_)) => return Err(format!("--if: {field} is a number, not `{text}`")),
    };
    let mut compare = span(key);
    compare.insert("is".to_owned(), is.into());
    compare.insert(field.to_owned(), value);
    Ok(compare.into())
}

/// `VERB KEY [REST]`.
fn operation(text: &str) -> Result<Value, String> {
    let mut words = text.trim().splitn(3, ' ');
    let (verb, key) = (words.next().unwrap_or_default(), words.next());
    let rest = words.next().map(str::trim);
    let key = key.ok_or_else(|| format!("`{text}` names no key"))?;
    let value = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    let body = match (verb, rest) {
        ("get" | "delete", None) => span(key).into(),
        ("put", Some(text)) => json!({"key": key, "value": value(text)}),
        ("append", Some(text)) => json!({"key": key, "text": text}),
        ("increment", Some(by)) => {
            let by: i64 = by
                .parse()
                .map_err(|_| format!("`{by}` is not a whole number"))?;
            json!({"key": key, "by": by})
        }
        _ => {
            return Err(format!(
                "`{text}` is none of put KEY VALUE, get KEY, delete KEY, increment KEY N, append KEY TEXT"
            ));
        }
    };
    Ok(json!({ verb: body }))
}

fn span(key: &str) -> Map<String, Value> {
    let (name, text) = match key.strip_suffix('*') {
        Some(prefix) => ("prefix", prefix),
        None => ("key", key),
    };
    Map::from_iter([(name.to_owned(), Value::from(text))])
}

/// Options of `caucus compact`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompactArgs {
    /// What was replaced or deleted up to here can't be read any more.
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    revision: u64,

    #[command(flatten)]
    cluster: Cluster,

    /// Form of the answer.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Form,
}

/// Lets the past go.
pub(crate) async fn compact(args: CompactArgs) -> Result<(), Fatal> {
    let body = json!({ "revision": args.revision }).to_string();
    let ask = Ask::new(Method::POST, "/v1/compact".to_owned());
    let ask = ask.header(CONTENT_TYPE, "application/json")?.body(body);
    let answer = args.cluster.connect()?.send_for_json(&ask).await?;
    args.output.print(&answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms() {
        let expected = json!({"key": "/a", "is": "=", "version": 0});
        assert_eq!(compare("version(/a) = 0"), Ok(expected));
        let expected = json!({"prefix": "/b/", "is": "<", "count": 3});
        assert_eq!(compare("count(/b/*)<3"), Ok(expected));
        let expected = json!({"key": "/c(1)", "is": "!=", "value": "some text"});
        assert_eq!(compare("value(/c(1)) != some text"), Ok(expected));
        let expected = json!({"put": {"key": "/a", "value": {"n": 1}}});
        assert_eq!(operation("put /a {\"n\": 1}"), Ok(expected));
        assert_eq!(
            operation("delete /b/*"),
            Ok(json!({"delete": {"prefix": "/b/"}}))
        );
        let expected = json!({"increment": {"key": "/n", "by": -2}});
        assert_eq!(operation("increment /n -2"), Ok(expected));
    }

    #[test]
    fn what_cannot_be_read_is_explained() {
        for wrong in [
            "version /a = 0",
            "size(/a) = 0",
            "version(/a) ~ 0",
            "version(/a) = x",
        ] {
            assert!(compare(wrong).unwrap_err().starts_with("--if"), "{wrong}");
        }
        for wrong in [
            "put /a",
            "get",
            "move /a /b",
            "get /a b",
            "increment /a one",
        ] {
            assert!(operation(wrong).unwrap_err().contains('`'), "{wrong}");
        }
    }
}
