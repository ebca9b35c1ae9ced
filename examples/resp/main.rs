//! A key-value store with publish and subscribe that speaks RESP, the protocol of Redis: `redis-cli`, `redis-benchmark` and client
//! libraries talk to it. Each worker has a shard of the keys, so nothing is locked.
//!
//! ```text
//!   PING [text]  ECHO text  QUIT
//!   GET key  SET key value [EX seconds]  DEL key  EXPIRE key seconds  TTL key
//!   SUBSCRIBE channel...  UNSUBSCRIBE [channel...]  PUBLISH channel text
//! ```
//!
//! `cargo run --release --example resp -- 127.0.0.1:7379 [WORKERS]`, then `redis-cli -p 7379`.
//!
//! A session that asks for a key of another worker sends the command there and pauses until the answer has come
//! (`service.rs`). `protocol.rs` knows how commands and answers look, `shard.rs` what a shard does.

mod protocol;
mod service;
mod shard;

use std::num::NonZeroUsize;

use service::Resp;
use uring_acceptor::server::Server;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:7379".into());
    let workers = arguments.next().map(|count| count.parse::<NonZeroUsize>()).transpose()?;
    let server = Server::builder(Resp)
        .listen(address.parse()?)
        .process(|process| process.threads.workers = workers)
        .start()?;
    for address in server.addresses() {
        println!("listening {address} resp");
    }
    server.join()?;
    Ok(())
}

#[cfg(test)]
mod tests;
