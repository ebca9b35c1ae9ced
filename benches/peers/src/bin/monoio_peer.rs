//! monoio on one thread: io_uring, buffers that are given away and come back.

use std::io;
use std::process::ExitCode;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use peers::{BUFFER_BYTES, Heads, RING_ENTRIES, Service};

fn main() -> ExitCode {
    peers::run(|listener, service| {
        let builder = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new();
        let mut runtime = builder.with_entries(RING_ENTRIES).build()?;
        runtime.block_on(serve(listener, service))
    })
}

async fn serve(listener: std::net::TcpListener, service: Service) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        match service {
            Service::Echo | Service::Uneven => monoio::spawn(echo(stream, service)),
            Service::Http => monoio::spawn(http(stream)),
        };
    }
}

async fn echo(mut stream: TcpStream, service: Service) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    let mut result;
    loop {
        (result, buffer) = stream.read(buffer).await;
        if result? == 0 {
            return Ok(());
        }
        service.work(buffer.len());
        (result, buffer) = stream.write_all(buffer).await;
        result?;
        buffer.clear();
    }
}

async fn http(mut stream: TcpStream) -> io::Result<()> {
    let (mut buffer, mut heads) = (Vec::with_capacity(BUFFER_BYTES), Heads::default());
    let mut result;
    loop {
        (result, buffer) = stream.read(buffer).await;
        let count = result?;
        let reply = heads.receive(&buffer[..count]);
        for answer in reply.answers() {
            stream.write_all(answer).await.0?;
        }
        if reply.close || count == 0 {
            return Ok(());
        }
        buffer.clear();
    }
}
