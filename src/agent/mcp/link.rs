//! One connection to a server, with the program behind it if there is one.

use std::error::Error as StdError;

use rmcp::RoleClient;
use rmcp::model::{ClientCapabilities, ClientConfig, Implementation, PaginatedRequestParams, ProtocolVersion, Tool};
use rmcp::service::{
    ClientInitializeError, ClientLifecycleMode, Peer, RunningService, ServiceError, serve_client_with_lifecycle,
};
use rmcp::transport::{IntoTransport, async_rw::AsyncRwTransport};
use tokio::sync::Mutex;

use super::child::{Child, Program};
use super::expand::Secrets;
use super::remote::{self, Address};

/// The most pages of a list of tools.
const PAGES_MAX: usize = 100;
/// The most tools that are read.
const LISTED_MAX: usize = 2000;

/// How a server is reached.
#[derive(Debug)]
pub(super) enum Way {
    /// A program.
    Program(Program),
    /// An address.
    Address(Address),
}

/// A connection. Dropping it ends it, and the program behind it.
#[derive(Debug)]
pub(super) struct Link {
    // Closed before the program is told to end: its standard input is at its end then.
    service: RunningService<RoleClient, ClientConfig>,
    child: Option<Mutex<Child>>,
}

/// Why there is no connection.
enum Fault {
    /// The server does not know how a conversation used to begin.
    OtherEra(String),
    Other(String),
}

impl Way {
    /// Starts or reaches the server.
    ///
    /// # Errors
    /// Why that failed, in words.
    pub(super) async fn connect(&self, label: &str, secrets: &Secrets) -> Result<Link, String> {
        // Nearly every server knows `initialize`, and some go astray when they are asked anything before it.
        match self.connect_as(ClientLifecycleMode::Initialize, label, secrets).await {
            Ok(link) => Ok(link),
            Err(Fault::Other(why)) => Err(secrets.hide(&why)),
            Err(Fault::OtherEra(why)) => {
                let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
                let newer = ClientLifecycleMode::Discover { preferred_versions };
                self.connect_as(newer, label, secrets).await.map_err(|_| secrets.hide(&why))
            }
        }
    }

    async fn connect_as(&self, mode: ClientLifecycleMode, label: &str, secrets: &Secrets) -> Result<Link, Fault> {
        match self {
            Way::Program(program) => {
                let (mut child, stdout, stdin) =
                    program.start(label, secrets).map_err(|error| Fault::Other(not_started(program, &error)))?;
                match begin(AsyncRwTransport::new(stdout, stdin), mode).await {
                    Ok(service) => Ok(Link { service, child: Some(Mutex::new(child)) }),
                    Err(ClientInitializeError::ConnectionClosed(_) | ClientInitializeError::TransportError { .. }) => {
                        Err(Fault::Other(format!("it ended at once ({})", child.how_it_went().await)))
                    }
                    Err(error) => Err(fault(error)),
                }
            }
            Way::Address(address) => {
                let service = begin(address.transport().map_err(Fault::Other)?, mode).await.map_err(fault)?;
                Ok(Link { service, child: None })
            }
        }
    }
}

fn not_started(program: &Program, error: &std::io::Error) -> String {
    format!("it cannot be started in {}: {error}", program.cwd.display())
}

async fn begin<T, E, A>(
    transport: T,
    mode: ClientLifecycleMode,
) -> Result<RunningService<RoleClient, ClientConfig>, ClientInitializeError>
where
    T: IntoTransport<RoleClient, E, A>,
    E: StdError + Send + Sync + 'static,
{
    let me = Implementation::new("octo", env!("CARGO_PKG_VERSION"));
    let config =
        ClientConfig::new(ClientCapabilities::default(), me).with_protocol_version(ProtocolVersion::V_2025_11_25);
    serve_client_with_lifecycle(config, transport, mode).await
}

fn fault(error: ClientInitializeError) -> Fault {
    match error {
        ClientInitializeError::JsonRpcError(error) => {
            Fault::OtherEra(format!("it refused to begin: {}", short(&error.message)))
        }
        ClientInitializeError::TransportError { error, .. } => Fault::Other(remote::root_cause(error.error.as_ref())),
        ClientInitializeError::ConnectionClosed(_) => Fault::Other("it closed the connection".to_owned()),
        ClientInitializeError::NoCompatibleProtocolVersion { .. } => {
            Fault::Other("it speaks no version of MCP that is spoken here".to_owned())
        }
        // What they quote is the server's own.
        _ => Fault::Other("it does not speak MCP".to_owned()),
    }
}

/// What a server says of an error, short enough for a sentence.
pub(super) fn short(text: &str) -> String {
    const MAX: usize = 500;
    let line = crate::render::sanitize::line(text);
    if line.len() <= MAX { line } else { format!("{}...", &line[..line.floor_char_boundary(MAX)]) }
}

impl Link {
    pub(super) fn peer(&self) -> &Peer<RoleClient> {
        self.service.peer()
    }

    /// Tells whether the server has gone, as far as is known.
    pub(super) fn is_dead(&self) -> bool {
        self.service.is_closed() || self.service.peer().is_transport_closed()
    }

    /// How a server that is gone went, in words.
    pub(super) async fn how_it_went(&self) -> String {
        match &self.child {
            Some(child) => child.lock().await.how_it_went().await,
            None => "the connection closed".to_owned(),
        }
    }

    /// The server's tools.
    ///
    /// # Errors
    /// Why they cannot be listed.
    pub(super) async fn tools(&self) -> Result<Vec<Tool>, String> {
        let (mut tools, mut cursor) = (Vec::new(), None);
        for _ in 0..PAGES_MAX {
            let mut page = PaginatedRequestParams::default();
            page.cursor = cursor;
            let listed = match self.peer().list_tools(Some(page)).await {
                Ok(listed) => listed,
                // It has no tools, which is no fault of a server.
                Err(ServiceError::McpError(error)) if error.code == rmcp::model::ErrorCode::METHOD_NOT_FOUND => break,
                Err(ServiceError::McpError(error)) => {
                    return Err(format!("it does not list its tools: {}", short(&error.message)));
                }
                Err(ServiceError::TransportSend(error)) => return Err(remote::root_cause(error.error.as_ref())),
                Err(ServiceError::TransportClosed) => {
                    return Err(format!("it ended instead of listing its tools ({})", self.how_it_went().await));
                }
                Err(_) => return Err("its list of tools makes no sense".to_owned()),
            };
            tools.extend(listed.tools);
            cursor = listed.next_cursor;
            if cursor.is_none() || tools.len() > LISTED_MAX {
                break;
            }
        }
        Ok(tools)
    }
}
