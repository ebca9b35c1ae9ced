//! Tables of what is taken and what is refused.

use super::*;

fn backends(texts: &[&str]) -> Vec<Backend> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn config() -> UpstreamConfig {
    UpstreamConfig::new(backends(&["127.0.0.1:80"]))
}

#[test]
fn the_defaults_are_valid_and_what_is_promised() {
    let config = config();
    config.validate().unwrap();
    assert_eq!(config.balance, Balance::LeastConnections);
    assert_eq!(config.when_all_out, WhenAllOut::TryAll);
    assert_eq!(config.active.check, ActiveCheck::None);
    assert_eq!(config.passive.failures, NonZeroU32::new(3));
    assert!(config.slow_start.is_zero());
}

#[test]
fn targets_round_trip() {
    let longest = format!("{}.example:1", "x".repeat(63));
    for text in [
        "10.0.0.1:80",
        "[::1]:65535",
        "localhost:1",
        "api.default.svc.cluster.local.:8080",
        "my_service-2:80",
        "3com.example:80",
        "srv:_web._tcp.example",
        "srv:web.service.consul.",
        "unix:/run/a,b.sock",
        &longest,
    ] {
        assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
    }
}

#[test]
fn bad_targets_name_the_value_and_a_remedy() {
    let long_label = format!("{}.example:1", "x".repeat(64));
    let long_name = format!("{}:1", "x.".repeat(127));
    let table = [
        ("", "no port"),
        ("10.0.0.1", "no port"),
        ("::1", "no port"),
        ("name", "no port"),
        ("name:", "port is not 1 to 65535"),
        ("name:0", "port is not 1 to 65535"),
        ("name:65536", "port is not 1 to 65535"),
        ("10.0.0.1:0", "port 0"),
        ("0.0.0.0:80", "for listening"),
        ("[::]:80", "for listening"),
        (":80", "neither"),
        ("10.0.0.300:80", "neither"),
        ("a..b:80", "neither"),
        ("-a:80", "neither"),
        ("a-:80", "neither"),
        ("a b:80", "neither"),
        ("http://a:80", "neither"),
        (long_label.as_str(), "neither"),
        (long_name.as_str(), "neither"),
        ("srv:", "no name of a service"),
        ("srv:a b", "no name of a service"),
        ("srv:_web._tcp.example:80", "have the port"),
        ("unix:", "no path"),
    ];
    for (text, expected) in table {
        let message = text.parse::<Target>().unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
        assert!(message.contains(text), "{text}: {message}");
    }
}

/// The records have them.
#[test]
fn a_service_takes_no_weight() {
    "srv:_web._tcp.example".parse::<Backend>().unwrap();
    let error = "srv:_web._tcp.example,weight=2".parse::<Backend>().unwrap_err().to_string();
    assert!(error.contains("takes no other"), "{error}");
    let target = "srv:_web._tcp.example".parse().unwrap();
    let heavy = vec![Backend { target, weight: Weight::new(2).unwrap() }];
    assert!(UpstreamConfig::validate_backends(&heavy).is_err());
}

#[test]
fn weights() {
    let weight = |text: &str| text.parse::<Backend>().map(|backend| backend.weight.get());
    assert_eq!(weight("a:1").unwrap(), 1);
    assert_eq!(weight("a:1,weight=1").unwrap(), 1);
    assert_eq!(weight("[::1]:1,weight=256").unwrap(), 256);
    for (bad, expected) in [
        ("a:1,weight=0", "it must be 1 to 256"),
        ("a:1,weight=257", "it must be 1 to 256"),
        ("a:1,weight=-1", "it must be 1 to 256"),
        ("a:1,weight=", "it must be 1 to 256"),
        ("a:1,wait=3", "'wait=3'"),
        ("a:1,", "only a weight"),
        ("a:1,weight", "only a weight"),
        ("a,weight=3", "no port"),
    ] {
        let message = weight(bad).unwrap_err().to_string();
        assert!(message.contains(expected), "{bad}: {message}");
    }
}

#[test]
fn policies_are_named_as_in_the_documents_and_others_refused() {
    let table = [
        ("least-connections", Balance::LeastConnections),
        ("round-robin", Balance::RoundRobin),
        ("random", Balance::Random),
        ("source-hash", Balance::SourceHash),
    ];
    for (text, expected) in table {
        assert_eq!(text.parse(), Ok(expected));
    }
    let message = "leastconn".parse::<Balance>().unwrap_err().to_string();
    assert!(message.contains("'leastconn'") && message.contains("least-connections"), "{message}");
    assert_eq!("refuse".parse(), Ok(WhenAllOut::Refuse));
    assert_eq!("try-all".parse(), Ok(WhenAllOut::TryAll));
    let message = "open".parse::<WhenAllOut>().unwrap_err().to_string();
    assert!(message.contains("'open'") && message.contains("try-all"), "{message}");
}

fn exchange(text: &str) -> (Vec<u8>, Vec<u8>) {
    match text.parse().unwrap() {
        ActiveCheck::SendExpect { send, expect } => {
            (send.as_bytes().to_vec(), expect.as_bytes().to_vec())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn checks() {
    assert_eq!("none".parse(), Ok(ActiveCheck::None));
    assert_eq!("connect".parse(), Ok(ActiveCheck::Connect));
    let (send, expect) = exchange(r"send-expect:PING\r\n|+PONG");
    assert_eq!((send.as_slice(), expect.as_slice()), (&b"PING\r\n"[..], &b"+PONG"[..]));
    let (send, expect) = exchange(r"send-expect:|SSH-\x7c\\\t\xfF");
    assert_eq!((send.as_slice(), expect.as_slice()), (&b""[..], &b"SSH-|\\\t\xff"[..]));
    for (bad, expected) in [
        ("tcp", "unknown"),
        ("send-expect:a", "unknown"),
        ("send-expect:a|", "expects nothing"),
        (r"send-expect:\q|a", "backslash"),
        (r"send-expect:a|\x1", "backslash"),
        (r"send-expect:a|\xg0", "backslash"),
        (r"send-expect:a|b\", "backslash"),
        (&format!("send-expect:{}|a", "x".repeat(1025)), "1025 bytes"),
    ] {
        let message = bad.parse::<ActiveCheck>().unwrap_err().to_string();
        assert!(message.contains(expected), "{bad}: {message}");
    }
}

#[test]
fn values_out_of_range_are_refused() {
    type Change = fn(&mut UpstreamConfig);
    let table: [(&str, Change); 10] = [
        ("no backend", |c| c.backends.clear()),
        ("given twice", |c| c.backends = backends(&["a:1", "b:1", "a:1,weight=2"])),
        ("interval of health", |c| c.active.interval = Duration::ZERO),
        ("timeout of health", |c| c.active.timeout = Duration::ZERO),
        ("rise", |c| c.active.rise = NonZeroU32::MAX),
        ("fall", |c| c.active.fall = NonZeroU32::MAX),
        ("first ejection", |c| c.passive.ejection_base = Duration::ZERO),
        ("longest ejection", |c| c.passive.ejection_max = Duration::from_millis(999)),
        ("percentage", |c| c.passive.ejected_percent_max = 101),
        ("resolve interval is 1ms", |c| c.resolve_interval = Duration::from_millis(1)),
    ];
    for (expected, change) in table {
        let mut config = config();
        change(&mut config);
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains(expected), "{expected}: {message}");
    }
    let many = (0..=UpstreamConfig::BACKENDS_MAX).map(|n| format!("host{n}:1").parse().unwrap());
    let message = UpstreamConfig::new(many.collect()).validate().unwrap_err().to_string();
    assert!(message.contains("1025 backends"), "{message}");
}
