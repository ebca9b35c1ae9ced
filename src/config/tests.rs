//! Tables of what is taken and what is refused.

use std::num::{NonZeroU32, NonZeroUsize};

use super::*;

#[test]
fn the_defaults_are_valid() {
    Config::default().validate().unwrap();
}

#[test]
fn addresses_round_trip() {
    for text in [
        "127.0.0.1:7000",
        "[::]:0",
        "[::1]:65535",
        "unix:/run/name.sock",
        "unix:relative",
        "unix:@name",
        "unix:@@",
        "unix:./@name",
        "unix:/run/@name",
    ] {
        assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
    }
}

#[test]
fn bad_addresses_name_the_value_and_a_remedy() {
    let long = format!("unix:/{}", "x".repeat(107));
    let table = [
        ("", "not IP:PORT"),
        ("127.0.0.1", "no port"),
        ("::1", "no port"),
        (":7000", "no IP address"),
        ("7000", "no IP address"),
        ("localhost:7000", "names are not resolved"),
        ("127.0.0.1:70000", "not IP:PORT"),
        ("unix:", "no path"),
        (long.as_str(), "at most 107"),
    ];
    for (text, expected) in table {
        let message = text.parse::<ListenAddress>().unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
        assert!(message.contains(text), "{text}: {message}");
    }
}

#[test]
fn where_to_listen_as_it_is_typed() {
    let all = |port| Listen::All { port };
    let name = |name: &str, port| Listen::Name { name: name.to_owned(), port };
    let table = [
        (":7000", all(7000), "*:7000"),
        ("*:0", all(0), "*:0"),
        ("localhost:7000", name("localhost", 7000), "localhost:7000"),
        ("a-b.example.:0", name("a-b.example.", 0), "a-b.example.:0"),
        ("127.0.0.1:1", Listen::Address("127.0.0.1:1".parse().unwrap()), "127.0.0.1:1"),
        ("[::]:1", Listen::Address("[::]:1".parse().unwrap()), "[::]:1"),
        ("unix:@a:1", Listen::Address("unix:@a:1".parse().unwrap()), "unix:@a:1"),
    ];
    for (text, expected, again) in table {
        let listen: Listen = text.parse().unwrap();
        assert_eq!((&listen, listen.to_string().as_str()), (&expected, again));
        assert_eq!(listen.to_string().parse::<Listen>().unwrap(), listen);
        assert_eq!(listen.any_port(), text.ends_with(":0"), "{text}");
    }
    let table = [
        ("", "no port"),
        ("7000", "for all addresses write :7000"),
        ("::1", "no port"),
        ("127.0.0.1", "no port"),
        ("localhost", "no port"),
        (":", "its port is not"),
        ("localhost:70000", "its port is not"),
        ("[*]:7000", "neither IP:PORT nor NAME:PORT"),
        ("127.0.0.256:7000", "neither IP:PORT nor NAME:PORT"),
        ("-a:7000", "neither IP:PORT nor NAME:PORT"),
        ("unix:@", "no abstract name"),
    ];
    for (text, expected) in table {
        let message = text.parse::<Listen>().unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn cpu_lists() {
    let cpus = |text: &str| text.parse::<CpuList>().map(|list| list.cpus().to_vec());
    assert_eq!(cpus("0").unwrap(), [0]);
    assert_eq!(cpus("3,0-2").unwrap(), [3, 0, 1, 2]);
    for bad in ["", ",", "a", "2-1", "1024", "0-", "-1", "0,,1", "0-99999999999"] {
        assert!(cpus(bad).is_err(), "{bad} was taken");
    }
    assert_eq!("4,6".parse::<CpuList>().unwrap().for_thread(3), 6);
}

#[test]
fn values_out_of_range_are_refused() {
    let refused = |change: fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    };
    assert!(refused(|c| c.frontends[0].listen.clear()).contains("no address to listen on"));
    assert!(
        refused(|c| c.process.threads.workers = NonZeroUsize::new(1025)).contains("at most 1024")
    );
    assert!(refused(|c| c.frontends[0].limits.budget_bytes = 1).contains("1024 to"));
    assert!(refused(|c| c.frontends[0].timeouts.idle = Duration::ZERO).contains("idle"));
    let overload = [
        refused(|c| c.frontends[0].overload.target = Duration::ZERO),
        refused(|c| c.frontends[0].overload.target = Duration::from_millis(100)),
        refused(|c| c.frontends[0].overload.interval = Duration::from_millis(9)),
    ];
    let expected = [
        "the overload target is 0s; it must be 1ms to 60s",
        "the overload target is 100ms; it must be below the overload interval, 100ms: ",
        "the overload interval is 9ms; it must be 10ms to 60s",
    ];
    for (text, expected) in overload.iter().zip(expected) {
        assert!(text.starts_with(expected), "{text}");
    }
    assert!(
        refused(|c| c.frontends[0].overload.patience = Some(Duration::ZERO)).contains("patience")
    );
    assert!(refused(|c| c.process.drain_timeout = Duration::MAX).contains("drain"));
    assert!(refused(|c| c.process.ring.buffer_bytes = 1).contains("buffer size"));
    assert!(refused(|c| c.process.ring.submission_entries = 7).contains("submission"));
    assert!(
        refused(|c| c.process.ring.completion_entries = NonZeroU32::new(1)).contains("completion")
    );
    assert!(refused(|c| c.process.ring.buffers = NonZeroU32::new(65_536)).contains("65535"));
}

#[test]
fn a_drain_timeout_of_zero_is_allowed() {
    let mut config = Config::default();
    config.process.drain_timeout = Duration::ZERO;
    config.validate().unwrap();
}

/// What several frontends must not have in common, and what one of them names.
#[test]
fn several_frontends() {
    let frontend = |name: &str, listen: &str, protocol: Protocol| {
        let mut frontend = Frontend::new(name, protocol);
        frontend.listen = vec![listen.parse().unwrap()];
        frontend
    };
    let proxy = |to: &str| Protocol::Proxy(Box::new(ProxyConfig::new(to)));
    let upstream = |name: &str| UpstreamConfig {
        name: name.to_owned(),
        ..UpstreamConfig::new(vec!["10.0.0.1:80".parse().unwrap()])
    };
    let error = |second: Frontend, upstreams: Vec<UpstreamConfig>| {
        let mut config = Config::of(frontend("a", "127.0.0.1:1", Protocol::Echo), upstreams);
        config.frontends.push(second);
        config.validate().err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(error(frontend("b", "127.0.0.1:2", proxy("x")), vec![upstream("x")]), "");
    let table = [
        (frontend("a", "127.0.0.1:2", Protocol::Echo), "two frontends of the name 'a'"),
        (frontend("b", "127.0.0.1:1", Protocol::Echo), "127.0.0.1:1 is given twice"),
        (
            frontend("b", "127.0.0.1:2", proxy("y")),
            "frontend 'b': there is no upstream 'y'; known: x",
        ),
        (frontend("b c", "127.0.0.1:2", Protocol::Echo), "'b c' cannot be the name of a frontend"),
        (frontend("", "127.0.0.1:2", Protocol::Echo), "'' cannot be the name"),
    ];
    for (second, expected) in table {
        let text = error(second, vec![upstream("x")]);
        assert!(text.contains(expected), "{text}");
    }
    let twice =
        error(frontend("b", "127.0.0.1:2", Protocol::Echo), vec![upstream("x"), upstream("x")]);
    assert!(twice.contains("two upstreams of the name 'x'"), "{twice}");
}
