//! `caucus kv`: keys and values from the command line.
//!
//! | file | does |
//! |---|---|
//! | `verbs` | put, get, del, list |
//! | `lines` | the NDJSON that import reads and export writes (pure) |
//! | `import` | many lines to many batches, with retries |
//! | `export` | a listing, page by page, to lines |

mod export;
mod import;
mod lines;
mod verbs;

use crate::fatal::Fatal;
pub(crate) use caucus_sdk::encoded;

/// Read and write keys.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Set a key.
    Put(verbs::PutArgs),
    /// Print a value.
    Get(verbs::GetArgs),
    /// Delete a key.
    Del(verbs::DelArgs),
    /// Print a key's changes, newest first, as far as they are kept.
    History(verbs::HistoryArgs),
    /// Add to an integer.
    Increment(verbs::IncrementArgs),
    /// Append to a value.
    Append(verbs::AppendArgs),
    /// List keys and values.
    List(verbs::ListArgs),
    /// Set a key for each line of a file.
    Import(import::Args),
    /// Print keys and values as lines that `import` reads.
    Export(export::Args),
}

/// Does it.
pub(crate) async fn run(command: Command) -> Result<(), Fatal> {
    match command {
        Command::Put(args) => verbs::put(args).await,
        Command::Get(args) => verbs::get(args).await,
        Command::Del(args) => verbs::del(args).await,
        Command::History(args) => verbs::history(args).await,
        Command::Increment(args) => verbs::increment(args).await,
        Command::Append(args) => verbs::append_to(args).await,
        Command::List(args) => verbs::list(args).await,
        Command::Import(args) => import::run(args).await,
        Command::Export(args) => export::run(args).await,
    }
}

fn key_path(key: &str) -> String {
    format!("/v1/kv/{}", encoded(key))
}

#[cfg(test)]
mod tests {
    #[test]
    fn keys_are_one_segment_of_the_path() {
        assert_eq!(
            super::key_path("/a b/ü?.~"),
            "/v1/kv/%2Fa%20b%2F%C3%BC%3F.~"
        );
    }
}
