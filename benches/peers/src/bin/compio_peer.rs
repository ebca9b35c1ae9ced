//! compio on one thread: io_uring, multishot accept, buffers that are given away and come back.

use std::io;
use std::process::ExitCode;

use compio::driver::ProactorBuilder;
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::RuntimeBuilder;
use futures_lite::StreamExt;
use peers::{BUFFER_BYTES, Heads, RING_ENTRIES, Service};

fn main() -> ExitCode {
    peers::run(|listener, service| {
        let mut proactor = ProactorBuilder::new();
        proactor.capacity(RING_ENTRIES).coop_taskrun(true).taskrun_flag(true);
        let runtime = RuntimeBuilder::new().with_proactor(proactor).build()?;
        runtime.block_on(serve(listener, service))
    })
}

async fn serve(listener: std::net::TcpListener, service: Service) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut incoming = listener.incoming();
    while let Some(stream) = incoming.next().await {
        match service {
            Service::Echo | Service::Uneven => {
                compio::runtime::spawn(echo(stream?, service)).detach()
            }
            Service::Http => compio::runtime::spawn(http(stream?)).detach(),
        }
    }
    Ok(())
}

async fn echo(mut stream: TcpStream, service: Service) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        let read = stream.read(buffer).await;
        if read.0? == 0 {
            return Ok(());
        }
        service.work(read.1.len());
        let written = stream.write_all(read.1).await;
        written.0?;
        buffer = written.1;
        buffer.clear();
    }
}

async fn http(mut stream: TcpStream) -> io::Result<()> {
    let (mut buffer, mut heads) = (Vec::with_capacity(BUFFER_BYTES), Heads::default());
    loop {
        let read = stream.read(buffer).await;
        let count = read.0?;
        buffer = read.1;
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
