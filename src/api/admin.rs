//! Status, health, metrics, and the commands that concern the whole workspace.

use std::fmt::Write as _;

use axum::Json;
use axum::extract::{Extension, State as Extract};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::extract::Unread;
use super::peer::surface;
use super::{Error, Peer, Rights, State, json_or_default};
use crate::command::{Refused, ShutdownRequest, StatusReport};
use crate::supervisor::Event;
use crate::supervisor::core::{Ask, Reply};
use crate::task::Stamp;
use crate::trust::{self, Trust};

pub(super) async fn status(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
) -> Result<Json<StatusReport>, Error> {
    state.check(&peer, Rights::Own).await?;
    Ok(Json(state.report().await?))
}

impl State {
    async fn report(&self) -> Result<StatusReport, Error> {
        let mut health = self.fixed.board.health();
        let (mut report, health) = self
            .supervisor
            .query(move |core| {
                for bridge in &mut health {
                    bridge.owed = core.owed_count(&bridge.name);
                }
                (core.status_report(), health)
            })
            .await?;
        report.bridges = health.into_iter().filter_map(|health| serde_json::to_value(health).ok()).collect();
        report.pid = std::process::id();
        report.version = env!("CARGO_PKG_VERSION").to_owned();
        report.workspace = self.fixed.workspace.display().to_string();
        report.started_at.clone_from(&self.fixed.started_at);
        report.settings.clone_from(&self.fixed.settings);
        Ok(report)
    }
}

pub(super) async fn shutdown(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Unread,
) -> Result<(StatusCode, Json<Value>), Error> {
    state.check(&peer, Rights::Own).await?;
    let request: ShutdownRequest = json_or_default(&body.read().await?)?;
    let mut stopping = 0;
    if request.kill_tasks {
        // Listen first: an end between the ask and the wait is heard.
        let bell = state.supervisor.listen();
        if let Reply::Ids(ids) = state.supervisor.ask(peer.actor(surface(&headers)), Ask::StopAll).await? {
            stopping = ids.len();
        }
        tokio::spawn(leave_when_idle(state.clone(), bell));
    } else {
        state.supervisor.ask(peer.actor(surface(&headers)), Ask::Leave).await?;
        state.leave();
    }
    Ok((StatusCode::ACCEPTED, Json(json!({ "leaving": true, "stopping": stopping }))))
}

async fn leave_when_idle(state: State, mut bell: tokio::sync::broadcast::Receiver<Event>) {
    while state.supervisor.query(|core| core.unfinished()).await.is_ok_and(|left| left > 0) {
        // Lagged means: look again.
        if let Err(tokio::sync::broadcast::error::RecvError::Closed) = bell.recv().await {
            break;
        }
    }
    state.leave();
}

pub(super) async fn clear(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Json<Value>, Error> {
    state.check(&peer, Rights::Own).await?;
    let cleared = match state.supervisor.ask(peer.actor(surface(&headers)), Ask::Clear).await? {
        Reply::Ids(ids) => ids.len(),
        Reply::Started(_) | Reply::Task(_) | Reply::Question(_) | Reply::Reserved(_) | Reply::Done => 0,
    };
    Ok(Json(json!({ "cleared": cleared })))
}

pub(super) async fn accept(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Json<Value>, Error> {
    state.check(&peer, Rights::Own).await?;
    let fixed = std::sync::Arc::clone(&state.fixed);
    let files = super::read::blocking(move || {
        let workspace = super::peer::workspace_at(&fixed.workspace, &fixed.octo);
        let now = Stamp::from_millis(crate::supervisor::now().wall);
        let accepted = trust::trust_all(&workspace, &fixed.installation, fixed.team.as_deref(), &now)?;
        Ok::<_, Refused>((accepted, Trust::load(&workspace, &fixed.installation).records(&workspace)))
    });
    let (accepted, records) = files.await??;
    state.supervisor.ask(peer.actor(surface(&headers)), Ask::Trust { records }).await?;
    Ok(Json(json!({ "accepted": accepted })))
}

pub(super) async fn healthz(Extract(state): Extract<State>) -> Result<&'static str, Error> {
    state.supervisor.query(|_| ()).await?;
    Ok("ok\n")
}

pub(super) async fn metrics(
    Extract(state): Extract<State>,
    Extension(peer): Extension<Peer>,
) -> Result<impl IntoResponse, Error> {
    state.check(&peer, Rights::Own).await?;
    let report = state.report().await?;
    let text = exposition(&report);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}

/// The report in the text form that Prometheus reads.
fn exposition(report: &StatusReport) -> String {
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, rows: &[(String, f64)]| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in rows {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let number = |n: usize| n as f64;
    let plain = |n: usize| vec![(String::new(), number(n))];
    let by_status: Vec<_> =
        report.counts.iter().map(|(status, n)| (format!("{{status=\"{status}\"}}"), number(*n))).collect();
    gauge("octo_tasks", "Tasks by status.", &by_status);
    gauge("octo_slots", "Slots in all.", &plain(report.slots));
    gauge("octo_slots_used", "Slots in use.", &plain(report.slots_used));
    gauge("octo_degraded", "1 while the store cannot save.", &plain(usize::from(!report.degraded.is_empty())));
    gauge("octo_problems", "Problems that the owner should know.", &plain(report.problems.len()));
    gauge("octo_notice_seq", "Notices raised so far.", &plain(usize::try_from(report.notice_seq).unwrap_or(0)));
    text
}
