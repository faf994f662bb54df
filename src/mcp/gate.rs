//! Stands between the client and rmcp: lets in what this server knows, and tells when the client is gone.

use std::collections::VecDeque;

use rmcp::RoleServer;
use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, CustomRequest, ErrorCode, ErrorData, JsonRpcRequest, ServerJsonRpcMessage,
};
use rmcp::transport::Transport;
use tokio::sync::watch;

/// A transport that hides from rmcp what would make it leave the lifecycle that begins with `initialize`.
///
/// Revision 2026-07-28 of MCP has no such beginning, and a client that wants to know whether it may use it probes
/// with `server/discover`. This server speaks 2025-11-25 and older, where that method does not exist: it is
/// answered like every other unknown method, before and after the beginning.
pub(super) struct Gate<T> {
    inner: T,
    begun: bool,
    /// Refusals that are still to be sent; kept here since receiving may be given up in the middle.
    refusals: VecDeque<ServerJsonRpcMessage>,
    gone: watch::Sender<bool>,
}

impl<T> Gate<T> {
    /// Also returns what turns true when the client has closed its end.
    pub(super) fn new(inner: T) -> (Self, watch::Receiver<bool>) {
        let (gone, seen) = watch::channel(false);
        (Gate { inner, begun: false, refusals: VecDeque::new(), gone }, seen)
    }

    /// The message as rmcp gets it; `None` where it does not.
    fn admit(&mut self, message: ClientJsonRpcMessage) -> Option<ClientJsonRpcMessage> {
        let ClientJsonRpcMessage::Request(JsonRpcRequest { id, request, .. }) = message else {
            // Before the beginning there is nothing that a notification or an answer could be about.
            return self.begun.then_some(message);
        };
        match request {
            ClientRequest::InitializeRequest(_) => self.begun = true,
            ClientRequest::PingRequest(_) => {}
            ClientRequest::ListToolsRequest(_) | ClientRequest::CallToolRequest(_) if self.begun => {}
            other if self.begun => {
                // rmcp answers what it does not know with "method not found".
                let unknown = CustomRequest::new(other.method().to_owned(), None);
                return Some(ClientJsonRpcMessage::request(ClientRequest::CustomRequest(unknown), id));
            }
            other => {
                let error = ErrorData::new(ErrorCode::METHOD_NOT_FOUND, other.method().to_owned(), None);
                self.refusals.push_back(ServerJsonRpcMessage::error(error, Some(id)));
                return None;
            }
        }
        Some(ClientJsonRpcMessage::request(request, id))
    }
}

impl<T: Transport<RoleServer>> Transport<RoleServer> for Gate<T> {
    type Error = T::Error;

    fn send(&mut self, item: ServerJsonRpcMessage) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.inner.send(item)
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            while let Some(refusal) = self.refusals.pop_front() {
                let _ = self.inner.send(refusal).await;
            }
            let Some(message) = self.inner.receive().await else {
                let _ = self.gone.send(true);
                return None;
            };
            if let Some(message) = self.admit(message) {
                return Some(message);
            }
        }
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.inner.close()
    }
}
