//! monoio as a proxy, after its own example: io_uring, a task for each connection, two copies at once.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Splitable};
use monoio::net::{TcpListener, TcpStream};
use peers::{PROXY_BUFFER_BYTES, RING_ENTRIES};

fn main() -> ExitCode {
    peers::run_proxy(|listener, backend| {
        let builder = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new();
        let mut runtime = builder.with_entries(RING_ENTRIES).build()?;
        runtime.block_on(serve(listener, backend))
    })
}

async fn serve(listener: std::net::TcpListener, backend: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (client, _) = listener.accept().await?;
        monoio::spawn(forward(client, backend));
    }
}

async fn forward(client: TcpStream, backend: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(backend).await?;
    server.set_nodelay(true)?;
    let (mut client_reads, mut client_writes) = client.into_split();
    let (mut server_reads, mut server_writes) = server.into_split();
    let there = copy(&mut client_reads, &mut server_writes);
    let back = copy(&mut server_reads, &mut client_writes);
    let (there, back) = monoio::join!(there, back);
    there.and(back)
}

/// Until the end, which is passed on.
async fn copy(from: &mut impl AsyncReadRent, to: &mut impl AsyncWriteRent) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(PROXY_BUFFER_BYTES);
    let mut result;
    loop {
        (result, buffer) = from.read(buffer).await;
        if result? == 0 {
            return to.shutdown().await;
        }
        (result, buffer) = to.write_all(buffer).await;
        result?;
        buffer.clear();
    }
}
