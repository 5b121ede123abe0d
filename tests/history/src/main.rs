//! `caucus-check FILE...`: checks histories that were kept. Ends with 0 if nothing is wrong, 1 if something is, 2 if a
//! file is no history.

use std::process::ExitCode;

use caucus_history::{History, check, replay};

fn main() -> ExitCode {
    let mut code = 0;
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        eprintln!("usage: caucus-check FILE...");
        return ExitCode::from(2);
    }
    for file in files {
        code = code.max(one(&file));
    }
    ExitCode::from(code)
}

fn one(file: &str) -> u8 {
    let history = std::fs::read_to_string(file).map_err(|error| error.to_string());
    let history = history.and_then(|text| History::parse(&text).map_err(|error| error.to_string()));
    let history = match history {
        Ok(history) => history,
        Err(error) => {
            eprintln!("{file}: {error}");
            return 2;
        }
    };
    let replayed = replay::check(&history);
    let found = check(&history);
    println!(
        "{file}: {} lines, {} answers checked, {} writes of unknown outcome that happened, {} violations",
        history.lines.len(),
        replayed.checked,
        replayed.placed,
        found.len()
    );
    for violation in &found {
        println!("{file}: {violation}");
    }
    u8::from(!found.is_empty())
}
