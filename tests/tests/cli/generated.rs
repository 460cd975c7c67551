//! Completions and manual pages hold every verb that the help names.

use super::*;

/// Every verb below this one, each as the words that lead to it.
fn verbs(desk: &Desk, way: &[String]) -> Vec<Vec<String>> {
    let arguments: Vec<&str> = way.iter().map(String::as_str).chain(["--help"]).collect();
    let help = desk.run(&arguments).stdout;
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    let below = names.flat_map(|name| {
        let way: Vec<String> = way.iter().cloned().chain([name.to_owned()]).collect();
        let deeper = verbs(desk, &way);
        std::iter::once(way).chain(deeper)
    });
    below.collect()
}

#[test]
fn every_verb_is_completed_in_every_shell() {
    let desk = Desk::new();
    let verbs = verbs(&desk, &[]);
    assert!(verbs.len() > 20, "{verbs:?}");
    for shell in ["bash", "zsh", "fish"] {
        let script = desk.run(&["completions", shell]);
        assert_eq!((script.code, script.stderr.as_str()), (Some(0), ""));
        for verb in &verbs {
            // bash has a case of its own for each verb, the others name it and its parent.
            let word = match shell {
                "bash" => format!("freezeframe__subcmd__{}\"", verb.join("-").replace('-', "__subcmd__")),
                _ => verb.last().unwrap().clone(),
            };
            assert!(script.stdout.contains(&word), "{shell}: {word}");
        }
        assert!(script.stdout.contains("diskspec"), "{shell}: options too");
    }
    desk.run(&["completions", "csh"]).assert(2, "invalid value 'csh'");
}

#[test]
fn every_verb_has_a_manual_page() {
    let desk = Desk::new();
    for verb in verbs(&desk, &[]) {
        let words: Vec<&str> = verb.iter().map(String::as_str).collect();
        let page = desk.run(&[&["man"], &words[..]].concat());
        let name = format!("freezeframe-{}", words.join("-"));
        page.assert(0, &format!(".TH {name} 1"));
        desk.run(&[&["man"], &words[..], &["nothing"]].concat()).assert(2, "there is no verb `nothing`");
    }
    desk.run(&["man"]).assert(0, ".TH freezeframe 1");
    desk.run(&["man", "snapshot"]).assert(0, "Exit codes:");
}

#[test]
fn all_pages_are_written_into_a_folder() {
    let desk = Desk::new().with("man1/README", "");
    desk.run(&["man", "--output", "man1"]).assert(0, "");
    let pages = names(&desk.path.join("man1"));
    for page in [
        "freezeframe.1",
        "freezeframe-snapshot.1",
        "freezeframe-snapshot-create-as.1",
        "freezeframe-undefine.1",
    ] {
        assert!(pages.iter().any(|name| name == page), "{pages:?}");
    }
    desk.run(&["man", "--output", "gone"]).assert(2, "error: cannot write gone");
}
