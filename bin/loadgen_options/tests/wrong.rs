//! What is refused, and whether the message helps.

use super::*;

type Row = (&'static str, &'static str, &'static str);

/// A command, an option that is refused there, and a word of what to do.
#[track_caller]
fn expect_refusals(table: &[Row]) {
    for (line, option, remedy) in table {
        let error = parse(&format!("{line} {option}")).expect_err(option);
        let text = error.to_string();
        assert_eq!(error.exit_code(), 2, "{text}");
        for part in option.split(' ').chain([*remedy]) {
            assert!(text.contains(part), "{line} {option} does not say '{part}': {text}");
        }
    }
}

#[test]
fn a_value_that_cannot_be_is_refused_with_what_would_be_right() {
    expect_refusals(&[
        ("crr 127.0.0.1:7", "--connections 0", "1 to 1000000"),
        ("crr 127.0.0.1:7", "--rate 0", "0.1 to"),
        ("crr 127.0.0.1:7", "--rate -1", "0.1 to"),
        ("crr 127.0.0.1:7", "--rate 0", "without --rate"),
        ("crr 127.0.0.1:7", "-c -1", "1 to 1000000"),
        ("crr 127.0.0.1:7", "--duration -1s", "1ms to 1h"),
        ("rr 127.0.0.1:7", "--think -1s", "1ms to 1h"),
        ("rr 127.0.0.1:7", "--think -x", "500ms"),
        ("crr 127.0.0.1:7", "--seed -1", "'-1'"),
        ("crr 127.0.0.1:7", "--server-pid -1", "1 to 4194304"),
        ("crr 127.0.0.1:7 --find-knee", "--failure-limit -1", "0 to 50"),
        ("http 127.0.0.1:7", "--expect-status -200", "2xx, 204"),
        ("http 127.0.0.1:7", "--expect-body-size -1", "0 to"),
        ("crr 127.0.0.1:7", "--rate NaN", "0.1 to"),
        ("crr 127.0.0.1:7", "--rate inf", "0.1 to"),
        ("crr 127.0.0.1:7", "--duration 2h", "to 1h"),
        ("crr 127.0.0.1:7", "--duration 5", "500ms"),
        ("crr 127.0.0.1:7", "--duration 0s", "1ms to"),
        ("crr 127.0.0.1:7", "--warm-up 11m", "to 10m"),
        ("crr 127.0.0.1:7", "--count 0", "1 to"),
        ("crr 127.0.0.1:7", "--request-size 0", "1 to 16777216"),
        ("crr 127.0.0.1:7", "--close none", "half"),
        ("crr 127.0.0.1:7", "--source localhost", "IP"),
        ("crr 127.0.0.1:7", "--server-pid 0", "1 to 4194304"),
        ("crr 127.0.0.1:7", "--svg -", "path of a file"),
        ("accept 127.0.0.1:7", "--close half", "use fin"),
        ("http 127.0.0.1:7", "--requests-per-connection 0", "1 to"),
        ("stream 127.0.0.1:7", "--close server", "fin or half"),
        ("http 127.0.0.1:7", "--method CONNECT", "tunnel"),
        ("http 127.0.0.1:7", "--header a", "Name: value"),
        ("http 127.0.0.1:7", "--expect-status 600-700", "from 100 to 599"),
        ("http 127.0.0.1:7", "--expect-status 2yy", "2xx, 204"),
        ("crr 127.0.0.1:7 --find-knee", "--failure-limit 51", "0 to 50"),
        ("crr 127.0.0.1:7 --find-knee", "--p99-limit 10ns", "1us to 1h"),
    ]);
}

#[test]
fn options_that_do_not_fit_together_are_refused_with_what_to_use() {
    expect_refusals(&[
        ("crr 127.0.0.1:7 -c 1", "--threads 2", "--connections 1"),
        ("crr unix:/x", "--close rst", "no reset"),
        ("crr 127.0.0.1:7 --csv -", "--json -", "same place"),
        ("crr 127.0.0.1:7 --hdr x", "--html x", "same place"),
        ("rr 127.0.0.1:7", "--close server", "fin or rst"),
        ("http 127.0.0.1:7", "--close server", "--requests-per-connection"),
        ("crr 127.0.0.1:7 --rate 9", "--connections 8", "--max-inflight 8"),
        ("accept 127.0.0.1:7 --rate 9", "--connections 8", "rr or http"),
        ("hold 127.0.0.1:7 --rate 9", "--connections 8", "--count"),
        (
            "http 127.0.0.1:7 --rate 9 --requests-per-connection 1",
            "--connections 8",
            "--max-inflight 8",
        ),
        ("rr 127.0.0.1:7 -c 8 --rate 9", "--max-inflight 7", "wait for a free one"),
        ("crr 127.0.0.1:7", "--arrival uniform", "needs --rate"),
        ("crr 127.0.0.1:7", "--max-inflight 8", "needs --rate"),
        ("rr 127.0.0.1:7 --rate 9", "--think 1s", "--connections N"),
        ("http 127.0.0.1:7 --requests-per-connection 1", "--think 1s", "only one"),
        ("http 127.0.0.1:7 --requests-per-connection 1", "--pipeline 2", "nothing to send ahead"),
        ("http 127.0.0.1:7 --rate 9", "--pipeline 2", "--connections N"),
        ("http 127.0.0.1:7 --think 1s", "--pipeline 2", "leave one"),
        ("http 127.0.0.1:7", "--order random", "needs --requests FILE"),
        ("crr 127.0.0.1:7 --find-knee", "--rate 9", "finds the rate"),
        ("crr 127.0.0.1:7 --find-knee", "--count 9", "a step ends after --duration"),
        ("crr 127.0.0.1:7 --find-knee", "--duration 90s", "200ms to 60s"),
        ("crr 127.0.0.1:7 --find-knee", "--duration 100ms", "200ms to 60s"),
        ("crr 127.0.0.1:7 --find-knee", "--svg x", "scripts/sweep draws"),
        ("crr 127.0.0.1:7 --find-knee", "--html x", "--json has the report of each step"),
        ("crr 127.0.0.1:7 --find-knee", "--hdr x", "--json has the report of each step"),
        ("crr 127.0.0.1:7", "--p99-limit 500us", "needs --find-knee"),
        ("crr 127.0.0.1:7", "--failure-limit 5", "needs --find-knee"),
    ]);
}

/// An option of another command: which ones have it, or what to use in its place.
#[test]
fn an_option_of_another_command_is_not_unheard_of() {
    for (line, words) in [
        ("stream h:1 --rate 8", "stream has no --rate: it sends as much as goes through"),
        ("stream h:1 --rate", "stream has no --rate: "),
        ("stream h:1 --rate=8", "stream has no --rate: "),
        ("storm h:1 --rate 8", "use crr --rate R"),
        ("storm h:1 --warm-up 1s", "what happens first is what it measures"),
        ("crr h:1 --think 1s", "use rr --think"),
        ("http h:1 --request-size 8", "give --body or --body-file"),
        ("accept h:1 --request-size 8", "which is an option of crr, rr, hold, stream, storm"),
        ("crr h:1 --echo", "crr has no --echo, which is an option of stream"),
        ("report a.json -c 8", "report has no -c, which is an option of accept, crr"),
        ("http h:1 --body -5", "--body needs a value, and '-5' looks like an option"),
        ("http h:1 -H -5", "write --header=-5"),
        // Nobody has it: a slip.
        ("crr h:1 --raet 8", "a similar argument exists: '--rate'"),
        ("crr h:1 --rate", "a value is required for '--rate <R>'"),
    ] {
        let text = parse(line).expect_err(line).to_string();
        assert!(text.contains(words), "{line} does not say '{words}': {text}");
    }
    assert!(text_of(&http("--body=-5")).ends_with("\r\n\r\n-5"));
}

#[test]
fn a_refusal_ends_with_the_usage_of_its_command() {
    for (line, usage) in [
        ("", "Usage: loadgen <COMMAND>"),
        ("crr h:1 --rate 9 -c 8", "Usage: loadgen crr [OPTIONS] <ADDR>"),
        ("http h:1 --close server", "Usage: loadgen http [OPTIONS] <ADDR>"),
        ("stream h:1 --rate 9", "Usage: loadgen stream [OPTIONS] <ADDR>"),
        ("merge a b --csv x --json x", "Usage: loadgen merge [OPTIONS] <FILE> <FILE>..."),
        ("report a --csv x --json x", "Usage: loadgen report [OPTIONS] <FILE>..."),
        ("compare a", "Usage: loadgen compare <A> <B>"),
    ] {
        let text = parse(line).expect_err(line).to_string();
        assert!(text.contains(usage), "{line} does not say '{usage}': {text}");
    }
}

#[test]
fn what_does_not_exist_or_fit_is_refused() {
    for line in [
        "",
        "crr",
        "run 127.0.0.1:7",
        "crr 127.0.0.1:7 extra",
        "crr 127.0.0.1:7 --requests-per-connection 2",
        "crr 127.0.0.1:7 --echo",
        "accept 127.0.0.1:7 --request-size 8",
        "http 127.0.0.1:7 --request-size 8",
        "storm 127.0.0.1:7 --rate 8",
        "hold 127.0.0.1:7 --find-knee",
        "stream 127.0.0.1:7 --find-knee",
        "storm 127.0.0.1:7 --warm-up 1s",
        "stream 127.0.0.1:7 --rate 8",
        "merge",
        "merge a.json",
        "report",
        "report a.json -c 8",
        "compare a.json",
        "compare a.json b.json c.json",
        "compare a.json b.json --csv x",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}: {error}");
        assert!(error.use_stderr(), "{line}");
    }
}
