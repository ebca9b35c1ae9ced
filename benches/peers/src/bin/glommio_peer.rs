//! glommio on one executor: io_uring, readiness-like streams.

use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::process::ExitCode;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};
use peers::{BUFFER_BYTES, Heads, RING_ENTRIES, Service};

fn main() -> ExitCode {
    peers::run(|listener, service| {
        let builder = LocalExecutorBuilder::new(Placement::Unbound);
        let executor = builder.ring_depth(RING_ENTRIES as usize).make()?;
        executor.run(serve(listener, service))
    })
}

async fn serve(listener: std::net::TcpListener, service: Service) -> io::Result<()> {
    // SAFETY: the descriptor is a listening socket that nobody else owns.
    let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
    loop {
        let stream = listener.accept().await?;
        match service {
            Service::Echo | Service::Uneven => {
                drop(glommio::spawn_local(echo(stream, service)).detach())
            }
            Service::Http => drop(glommio::spawn_local(http(stream)).detach()),
        }
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
