//! pingora as a proxy of layer 4, after its own example: its listeners, its connector, and tokio's
//! `copy_bidirectional` between them.

use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::apps::ServerApp;
use pingora_core::connectors::TransportConnector;
use pingora_core::protocols::Stream;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{Server, ShutdownWatch};
use pingora_core::services::listening::Service;
use pingora_core::upstreams::peer::BasicPeer;

struct Proxy {
    connector: TransportConnector,
    backend: BasicPeer,
}

#[async_trait]
impl ServerApp for Proxy {
    async fn process_new(
        self: &Arc<Self>,
        mut client: Stream,
        _shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let mut server = self.connector.new_stream(&self.backend).await.ok()?;
        // Either end may reset: then both are closed, as at the end.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        None
    }
}

fn main() -> ExitCode {
    let Some((address, backend, workers)) = peers::proxy_options() else {
        return ExitCode::from(2);
    };
    let configuration = ServerConf {
        threads: workers,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, configuration);
    server.bootstrap();
    let proxy = Proxy {
        connector: TransportConnector::new(None),
        backend: BasicPeer::new(&backend.to_string()),
    };
    let mut service = Service::new("proxy".into(), proxy);
    service.add_tcp(&address.to_string());
    server.add_service(service);
    server.run_forever()
}
