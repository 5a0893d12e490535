//! `ft help`, `ft completions`, `ft man`: what the program says of itself is true of it.

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use clap::Parser;
use clap::error::ErrorKind;
use ft::cli::Cli;
use workshop::Workshop;

/// Names of the topics, as the list has them.
fn topics(shop: &Workshop) -> Vec<String> {
    let list = shop.run(&["help", "topics"]).code(0).stdout;
    let names = list.lines().filter_map(|line| line.strip_prefix("  ")?.split_once("  "));
    let names: Vec<String> = names.map(|(name, _)| name.trim().to_owned()).collect();
    assert!(names.len() >= 10, "{list}");
    names
}

/// Words as a shell would part them; what follows two spaces, or a `>`, is no part of the command.
fn shell_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut spaces) = (Vec::new(), String::new(), None, 0);
    for c in line.chars() {
        match (c, quote) {
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(q)) if c == q => quote = None,
            (' ', None) => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                spaces += 1;
                if spaces >= 2 {
                    return words;
                }
                continue;
            }
            ('>', None) => return words,
            (c, _) => word.push(c),
        }
        spaces = 0;
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

#[test]
fn every_command_that_a_topic_quotes_is_one_that_ft_takes() {
    let shop = Workshop::new();
    let mut quoted = 0;
    for topic in topics(&shop) {
        let text = shop.run(&["help", &topic]).code(0).stdout;
        assert!(text.starts_with(&format!("# {topic}: ")), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{topic} has long lines:\n{text}");
        for line in text.lines().filter_map(|line| line.strip_prefix("    ft ")) {
            let words = shell_words(&format!("ft {line}"));
            quoted += 1;
            match Cli::try_parse_from(&words) {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::DisplayHelp => {}
                Err(e) => panic!("{topic}: {words:?}: {e}"),
            }
        }
        for (at, _) in text.match_indices("ft help ") {
            let rest = &text[at + "ft help ".len()..];
            let name: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            if !name.is_empty() {
                shop.run(&["help", &name]).code(0);
            }
        }
    }
    assert!(quoted > 40, "{quoted} commands only");
}

#[test]
fn every_key_that_a_topic_names_is_one_of_a_recipe() {
    let shop = Workshop::new();
    let mut named = BTreeSet::new();
    for topic in topics(&shop) {
        let text = shop.run(&["help", &topic]).code(0).stdout;
        let quoted = text.split('`').skip(1).step_by(2).map(str::to_owned);
        let sections = ["data", "augmentation", "backbone", "weights", "head", "train"];
        named.extend(quoted.filter(|word| {
            word.split_once('.').is_some_and(|(section, key)| {
                sections.contains(&section) && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            })
        }));
    }
    assert!(named.len() > 25, "{named:?}");
    for key in named {
        // A wrong type is a mistake of another kind than an unknown key.
        let error =
            ft::recipe::load("cnn-basic", &[format!("{key}=[[1]]")]).expect_err("no key takes that").to_string();
        assert!(error.contains(&key) && !error.contains("unknown key"), "{key}: {error}");
    }
}

#[test]
fn help_of_a_command_is_what_its_help_option_says() {
    let shop = Workshop::new();
    for words in [&["recipe"][..], &["data"], &["data", "check"], &["runs", "export"], &["init"]] {
        let help = shop.run(&[&["help"], words].concat()).code(0).stdout;
        let option = shop.run(&[words, &["--help"]].concat()).code(0).stdout;
        assert!(help.starts_with(option.trim_end()), "{help}\n---\n{option}");
    }
    for (command, of_it) in [("data", "check"), ("runs", "compare"), ("weights", "export")] {
        let nested = shop.run(&[command, "help", of_it]).code(0).stdout;
        assert_eq!(nested, shop.run(&["help", command, of_it]).code(0).stdout);
    }
    assert!(shop.run(&["help"]).code(0).stdout.contains("ft help topics"));
    // A topic beside a command of nearly the same name is pointed to, and found by the command's.
    assert!(shop.run(&["help", "data"]).code(0).stdout.contains("ft help photos"));
    assert!(shop.run(&["help", "topics", "data"]).code(0).stdout.starts_with("# photos: "));
}

#[test]
fn help_about_nothing_is_an_error_with_the_nearest_name() {
    let shop = Workshop::new();
    shop.run(&["help", "frezing"]).code(2).says(&["frezing", "did you mean \"freezing\"?", "ft help topics"]);
    shop.run(&["help", "data", "chek"]).code(2).says(&["data chek"]);
    shop.run(&["help", "topics", "nothing"]).code(2).says(&["topics nothing"]);
}

#[test]
fn completions_are_made_for_every_shell_and_know_recipes_and_topics() {
    let shop = Workshop::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = shop.run(&["completions", shell]).code(0).stdout;
        for word in ["recipe", "init", "freeze-before"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
    let fish = shop.run(&["completions", "fish"]).code(0).stdout;
    assert!(fish.contains("vgg16-gap") && fish.contains("exit-codes"));
    shop.run(&["completions", "csh"]).code(2).says(&["invalid value 'csh'"]);
}

/// What bash completes the last of these words to.
fn bash_completes(script: &str, words: &[&str]) -> Vec<String> {
    let ask = format!(
        "{script}\nCOMP_WORDS=({}); COMP_CWORD={}; _ft ft '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.join(" "),
        words.len() - 1,
        words[words.len() - 1],
        words[words.len() - 2]
    );
    let output = Command::new("bash").args(["-c", &ask]).stdin(Stdio::null()).output().expect("bash");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[cfg(unix)]
#[test]
fn bash_completes_commands_options_recipes_and_topics() {
    let shop = Workshop::new();
    let script = shop.run(&["completions", "bash"]).code(0).stdout;
    assert_eq!(bash_completes(&script, &["ft", "bas"]), ["baseline"]);
    assert_eq!(bash_completes(&script, &["ft", "recipe", "vgg1"]), ["vgg16-gap"]);
    assert_eq!(bash_completes(&script, &["ft", "recipe", "--split-f"]), ["--split-file"]);
    assert_eq!(bash_completes(&script, &["ft", "help", "freez"]), ["freezing"]);
    assert_eq!(bash_completes(&script, &["ft", "data", "chec"]), ["check"]);
}

#[test]
fn there_is_a_manual_page_for_every_command_and_no_macro_in_it_is_wrong() {
    let shop = Workshop::new();
    shop.run(&["man", "--out", "man1"]).code(0).says(&["manual pages"]);
    let pages: BTreeSet<String> = std::fs::read_dir(shop.path("man1"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for page in ["ft.1", "ft-recipe.1", "ft-init.1", "ft-data.1", "ft-data-check.1", "ft-runs-export.1"] {
        assert!(pages.contains(page), "{page} is not among {pages:?}");
    }
    let first = std::fs::read_to_string(shop.path("man1/ft.1")).unwrap();
    assert_eq!(first, shop.run(&["man"]).code(0).stdout, "without --out the same page goes to stdout");
    let examples = std::fs::read_to_string(shop.path("man1/ft-init.1")).unwrap();
    assert!(examples.contains(".SH EXAMPLES\n.nf\nft init photos/"), "examples keep their lines:\n{examples}");
    if Command::new("groff").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("there is no groff: macros were not checked");
        return;
    }
    for page in pages {
        let path = shop.path("man1").join(&page);
        let output =
            Command::new("groff").args(["-Kutf8", "-man", "-ww", "-Tutf8", "-z"]).arg(path).output().expect("groff");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{page}: {said}");
    }
}
