//! Writes the existing tool's tables where its dashboards look for them: to the REST interface (PostgREST) of a Supabase
//! project that nobody gave us the database of.
//!
//! Each row is put there by a key of its own, so that writing it again changes nothing, and is removed by its id; what
//! could not be sent stays in the outbox. Requests have the shape that the official Python client gives them. One process
//! of those that share a registry sends at a time.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result, Retry};
use crate::manager::Manager;
use crate::model::{Reach, Secret};
use crate::registry::{Outgoing, ToolRow};
use crate::transport::{HttpClient, HttpOptions, Request};

/// Rows of one request.
const MOST: usize = 500;

/// Ids of one request to remove rows, which are in its URL.
const MOST_IDS: usize = 100;

/// Of one request.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest answer that is read.
const LONGEST: usize = 64 << 10;

/// Where the tables are mirrored to.
#[derive(Debug)]
pub struct Mirror {
    base: String,
    key: Secret,
    http: HttpClient,
}

/// What one round has done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Mirrored {
    pub sent: u64,
    /// Rows that were refused in this round.
    pub refused: u64,
    /// Rows that are still to be sent, with all that were refused.
    pub waiting: u64,
}

/// How a request was answered.
enum Answer {
    Taken,
    /// Nobody knows whether it has arrived, or will.
    Lost(Error),
    /// Nobody takes rows of this table, or removes any.
    Closed(Error),
    /// The rows are at fault, or one of them is.
    Refused(String),
}

impl Mirror {
    /// # Errors
    /// `Config` when the URL is none that a key may be sent to.
    pub fn new(url: &str, key: Secret, http: HttpOptions) -> Result<Self> {
        let unusable = |why: &str| {
            Error::new(ErrorKind::Config, format!("SUPABASE_URL: {why}"))
                .with_hint("it looks like https://<project>.supabase.co")
        };
        let parsed = url::Url::parse(url).map_err(|_| unusable("it is no URL"))?;
        let is_local = matches!(parsed.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if parsed.scheme() != "https" && !(parsed.scheme() == "http" && is_local) {
            return Err(unusable("the service key is sent by https only"));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() || parsed.query().is_some() {
            return Err(unusable("it may hold neither a user nor a query"));
        }
        let reach = if is_local { Reach::ThisMachine } else { Reach::Private };
        let http = HttpClient::new(&HttpOptions { reach, ..http })
            .map_err(|error| unusable(&error.to_string()).with_source(error))?;
        Ok(Mirror { base: parsed.as_str().trim_end_matches('/').to_owned(), key, http })
    }

    /// Sends what waits, as long as there is something and time; nothing while another process does.
    ///
    /// # Errors
    /// `Unavailable`; `Unauthenticated` or `NotFound` when a table is not there or may not be written, after all others were
    /// sent. What was not sent is sent by a later round. `Registry`.
    pub async fn send(&self, manager: &Manager, within: Duration) -> Result<Mirrored> {
        let (registry, deadline) = (manager.registry(), Instant::now() + within);
        let (mut done, mut closed, mut why_closed) = (Mirrored::default(), Vec::new(), None);
        let waiting = registry.tool_rows_waiting().await?;
        // Who has nothing to send disturbs nobody by taking turns.
        let turn = match waiting.rows > waiting.refused {
            true => registry.take_mirror(within + PATIENCE).await?,
            false => None,
        };
        while turn.is_some() && Instant::now() < deadline {
            let Some(outgoing) = registry.outgoing_tool_rows(MOST, &closed).await? else { break };
            let (table, are_gone) = (outgoing.table, outgoing.are_gone);
            // Halves of what is refused, until the row that is at fault is alone.
            let mut parts = in_parts(outgoing);
            while let Some(mut part) = parts.pop().filter(|_| Instant::now() < deadline) {
                match self.ask(&part, deadline).await? {
                    Answer::Taken => {
                        registry.tool_rows_arrived(&part.rows).await?;
                        done.sent += part.rows.len() as u64;
                    }
                    Answer::Lost(error) => {
                        // It may still arrive, and nothing newer is sent until the turn has run out.
                        if let Some(turn) = turn {
                            turn.run_out();
                        }
                        return Err(error);
                    }
                    Answer::Closed(error) => {
                        closed.push((table, are_gone));
                        why_closed = Some(error);
                        parts.clear();
                    }
                    Answer::Refused(why) if part.rows.len() == 1 => {
                        tracing::warn!(table, %why, "a row could not be mirrored");
                        registry.tool_row_refused(&part.rows[0], &why).await?;
                        done.refused += 1;
                    }
                    Answer::Refused(_) => {
                        let second = part.rows.split_off(part.rows.len() / 2);
                        parts.extend([Outgoing { rows: second, ..part }, part]);
                    }
                }
            }
        }
        if let Some(turn) = turn {
            turn.end().await?;
        }
        done.waiting = registry.tool_rows_waiting().await?.rows;
        why_closed.map_or(Ok(done), Err)
    }

    async fn ask(&self, part: &Outgoing, deadline: Instant) -> Result<Answer> {
        let table = part.table;
        let request = if part.are_gone { self.removal(part)? } else { self.upsert(part)? };
        let lost = |error: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Unavailable, format!("the mirror did not answer: {error}"))
                .with_hint("what waits is sent later")
                .with_retry(Retry::Yes, None)
        };
        let response = match self.http.send(request, deadline.min(Instant::now() + PATIENCE)).await {
            Ok(response) => response,
            Err(error) => return Ok(Answer::Lost(lost(&error))),
        };
        let status = response.status();
        let body = response.read(LONGEST).await.map_err(|error| lost(&error))?;
        let said = serde_json::from_slice::<Value>(&body).unwrap_or_default();
        let word = |name: &str| said.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let why = format!("{} {}", word("code"), word("message"));
        let failed = |kind, hint: &str| {
            Error::new(kind, format!("the mirror answered with {status} to rows of {table}: {}", why.trim()))
                .with_hint(hint)
        };
        match status {
            200..300 => Ok(Answer::Taken),
            400 | 409 | 413 | 422 => Ok(Answer::Refused(why.trim().to_owned())),
            401 | 403 => Ok(Answer::Closed(failed(ErrorKind::Unauthenticated, "check SUPABASE_SERVICE_ROLE_KEY"))),
            404 => Ok(Answer::Closed(failed(ErrorKind::NotFound, "`exai-files db plan` prints the tables it needs"))),
            429 | 503 => Err(failed(ErrorKind::Unavailable, "what waits is sent later")),
            // Of one table perhaps, whose foreign keys take too long to be looked after. Also what a proxy says in its place.
            _ => Ok(Answer::Closed(failed(ErrorKind::Unavailable, "what waits is sent later"))),
        }
    }

    fn upsert(&self, part: &Outgoing) -> Result<Request> {
        let rows: Vec<&ToolRow> = part.rows.iter().map(|row| &row.row).collect();
        let columns: Vec<String> = rows[0].keys().map(|column| format!("\"{column}\"")).collect();
        let body = serde_json::to_string(&rows)
            .map_err(|error| Error::new(ErrorKind::Registry, "a row cannot be written as JSON").with_source(error))?;
        let query = vec![("on_conflict", key_of(part.table).to_owned()), ("columns", columns.join(","))];
        let request = Request { query, ..Request::post_json(self.url_of(part.table), body) };
        self.signed(request.header("prefer", "return=minimal,resolution=merge-duplicates"))
    }

    fn removal(&self, part: &Outgoing) -> Result<Request> {
        let ids: Vec<&str> = part.rows.iter().filter_map(|row| row.row["id"].as_str()).collect();
        let query = vec![("id", format!("in.({})", ids.join(",")))];
        let request = Request { query, ..Request::delete(self.url_of(part.table)) };
        self.signed(request.header("prefer", "return=minimal"))
    }

    fn url_of(&self, table: &str) -> String {
        format!("{}/rest/v1/{table}", self.base)
    }

    fn signed(&self, request: Request) -> Result<Request> {
        request
            .header("accept-profile", "public")
            .header("content-profile", "public")
            .bearer(&self.key)
            .and_then(|request| request.secret_header("apikey", &self.key))
            .map_err(|error| Error::new(ErrorKind::Config, format!("the service key cannot be used: {error}")))
    }
}

/// What a request may hold at most.
fn in_parts(outgoing: Outgoing) -> Vec<Outgoing> {
    let most = if outgoing.are_gone { MOST_IDS } else { MOST };
    let parts = outgoing.rows.chunks(most).map(|rows| Outgoing { rows: rows.to_vec(), ..outgoing });
    parts.rev().collect()
}

/// What names a row: where the tool may have put it there itself, not our `id`.
fn key_of(table: &str) -> &'static str {
    match table {
        "platform_file_registry" => "platform,platform_file_id",
        "file_hashes" => "file_hash",
        _ => "id",
    }
}
