//! tokio on one thread: epoll, a task for each connection.

use std::io;
use std::process::ExitCode;

use peers::{BUFFER_BYTES, Heads, Service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn main() -> ExitCode {
    peers::run(|listener, service| {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(serve(listener, service))
    })
}

async fn serve(listener: std::net::TcpListener, service: Service) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        match service {
            Service::Echo | Service::Uneven => tokio::spawn(echo(stream, service)),
            Service::Http => tokio::spawn(http(stream)),
        };
    }
}

async fn echo(mut stream: TcpStream, service: Service) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        service.work(count);
        stream.write_all(&buffer[..count]).await?;
    }
}

async fn http(mut stream: TcpStream) -> io::Result<()> {
    let (mut buffer, mut heads) = (vec![0; BUFFER_BYTES], Heads::default());
    loop {
        let count = stream.read(&mut buffer).await?;
        let reply = heads.receive(&buffer[..count]);
        for answer in reply.answers() {
            stream.write_all(answer).await?;
        }
        if reply.close || count == 0 {
            return Ok(());
        }
    }
}
