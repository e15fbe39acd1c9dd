//! What a platform does with files (platform_api.md §1, §2, §7).

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use serde_json::{Value, json};

use super::clock::{Micros, rfc3339, seconds};
use super::extract;
use super::ids::{self, Random};
use super::multipart::Form;
use super::profile::Profile;
use super::refusals::{self, Refusal};
use super::settings::{NotFound, Purposes, Settings, StoreContent};

const MICROS_PER_DAY: f64 = 86_400e6;

/// One stored file.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub id: String,
    pub account: String,
    pub filename: String,
    pub purpose: String,
    pub mime: String,
    pub size: u64,
    pub sha256: String,
    pub bytes: Option<Bytes>,
    pub text: Option<String>,
    pub created: Micros,
    pub expires: Option<Micros>,
    /// Order of arrival.
    pub number: u64,
}

/// One platform's files, accounts and settings.
pub(super) struct Shelf {
    /// Whose rules hold here.
    profile: Profile,
    pub settings: Settings,
    pub files: HashMap<String, Stored>,
    /// File ids in order of arrival, by account.
    order: HashMap<String, Vec<String>>,
    usage: HashMap<String, Usage>,
    /// Keys that were used raw, and can therefore sign JWTs.
    pub known_keys: Vec<String>,
    recent: HashMap<String, VecDeque<Micros>>,
    in_flight: HashMap<String, u32>,
    next: u64,
}

#[derive(Default)]
struct Usage {
    bytes: u64,
    files: BTreeMap<String, u64>,
    names: HashMap<String, u64>,
    /// The number the latest clash of a name was given.
    renamed: HashMap<String, u64>,
}

/// A file as it arrived, hashed outside the lock.
pub(super) struct Arrived {
    pub form: Form,
    pub sha256: String,
}

impl Shelf {
    pub(super) fn new(profile: Profile) -> Self {
        Shelf {
            profile: profile.rules(),
            settings: Settings::of(profile),
            files: HashMap::new(),
            order: HashMap::new(),
            usage: HashMap::new(),
            known_keys: Vec::new(),
            recent: HashMap::new(),
            in_flight: HashMap::new(),
            next: 0,
        }
    }

    // ===== pace =====

    /// Counts a request in, or refuses it. Every admitted one is followed by [`leave`](Self::leave).
    pub(super) fn enter(&mut self, account: &str, now: Micros, english: bool) -> Result<(), Refusal> {
        let Settings { requests_per_minute, concurrency, .. } = self.settings;
        let flying = self.in_flight.entry(account.to_owned()).or_default();
        if concurrency > 0 && *flying >= concurrency {
            return Err(refusals::too_fast(self.profile, &format!("max concurrency: {concurrency}"), 1.0, english));
        }
        if requests_per_minute > 0 {
            let recent = self.recent.entry(account.to_owned()).or_default();
            while recent.front().is_some_and(|at| *at <= now - 60_000_000) {
                recent.pop_front();
            }
            if recent.len() >= requests_per_minute as usize {
                let wait = (recent[0] + 60_000_000 - now) as f64 / 1e6;
                return Err(refusals::too_fast(
                    self.profile,
                    &format!("max RPM: {requests_per_minute}"),
                    wait,
                    english,
                ));
            }
            recent.push_back(now);
        }
        *flying += 1;
        Ok(())
    }

    pub(super) fn leave(&mut self, account: &str) {
        if let Some(flying) = self.in_flight.get_mut(account) {
            *flying = flying.saturating_sub(1);
        }
    }

    // ===== verbs =====

    pub(super) fn upload(
        &mut self,
        account: &str,
        arrived: Arrived,
        beta: bool,
        random: &mut Random,
        now: Micros,
    ) -> Result<Stored, Refusal> {
        let Arrived { form, sha256 } = arrived;
        let purpose = form.field("purpose").map(str::to_owned).or_else(|| beta.then(|| "file-extract".to_owned()));
        let renamed = form.field("filename").filter(|_| beta).map(str::to_owned);
        let file = form.file.ok_or_else(|| self.invalid("file is required", "1213"))?;
        let purpose = purpose.ok_or_else(|| self.invalid("purpose is required", "1213"))?;
        self.check_purpose(&purpose)?;
        let size = file.bytes.len() as u64;
        self.check_size(size, &purpose, &file.filename)?;
        self.check_room(account, size, &purpose)?;
        let filename = self.free_name(account, renamed.unwrap_or(file.filename));
        let text = self.extract(&purpose, &filename, &file.bytes)?;
        let id = ids::file_id(random, self.profile, self.settings.id_style, &purpose, now);
        let stored = Stored {
            id,
            account: account.to_owned(),
            mime: file.content_type.unwrap_or_else(|| "application/octet-stream".into()),
            filename,
            purpose,
            size,
            sha256,
            bytes: (self.settings.store_content == StoreContent::Memory).then_some(file.bytes),
            text,
            created: now,
            expires: self.settings.retention_days.map(|days| now + (days * MICROS_PER_DAY) as Micros),
            number: 0,
        };
        Ok(self.put(stored))
    }

    /// Stores a file without asking.
    pub(super) fn put(&mut self, mut stored: Stored) -> Stored {
        self.next += 1;
        stored.number = self.next;
        let usage = self.usage.entry(stored.account.clone()).or_default();
        usage.bytes += stored.size;
        *usage.files.entry(stored.purpose.clone()).or_default() += 1;
        *usage.names.entry(stored.filename.clone()).or_default() += 1;
        self.order.entry(stored.account.clone()).or_default().push(stored.id.clone());
        self.files.insert(stored.id.clone(), stored.clone());
        stored
    }

    /// A page of an account's files, oldest first, and whether there are more.
    pub(super) fn list(&self, account: &str, query: &HashMap<String, String>, now: Micros) -> (Vec<&Stored>, bool) {
        let purpose = query.get("purpose").filter(|purpose| !purpose.is_empty());
        if self.profile.speaks_zai() && purpose.is_none() {
            return (Vec::new(), false);
        }
        let listed_from = now - (self.settings.list_delay_seconds * 1e6) as Micros;
        let ids = self.order.get(account).map(Vec::as_slice).unwrap_or_default();
        let after = query.get("after").and_then(|after| self.files.get(after)).map_or(0, |file| file.number);
        let mut files = ids
            .iter()
            .filter_map(|id| self.files.get(id))
            .filter(|file| file.number > after && file.created <= listed_from)
            .filter(|file| purpose.is_none_or(|purpose| file.purpose == *purpose));
        let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(self.settings.page_size);
        let page: Vec<&Stored> = files.by_ref().take(limit as usize).collect();
        (page, files.next().is_some())
    }

    pub(super) fn get(&self, account: &str, id: &str) -> Result<&Stored, Refusal> {
        self.files.get(id).filter(|file| file.account == account).ok_or_else(|| self.not_found(id))
    }

    /// A file's content: media type and bytes.
    pub(super) fn content(&self, account: &str, id: &str) -> Result<(&'static str, Bytes), Refusal> {
        let file = self.get(account, id)?;
        match (self.profile, file.purpose.as_str(), &file.text) {
            (_, "file-extract", Some(text)) => {
                let wrapper = json!({"content": text, "file_type": file.mime, "filename": file.filename, "title": "", "type": "file"});
                Ok(("application/json; charset=utf-8", wrapper.to_string().into()))
            }
            (_, "batch" | "batch_output", _) => {
                let bytes = file.bytes.clone().unwrap_or_default();
                Ok(("application/octet-stream", bytes))
            }
            (Profile::Moonshot, ..) => {
                Err(refusals::moonshot_invalid("content is only available for files with purpose file-extract"))
            }
            _ => Err(refusals::zai_invalid("file content cannot be downloaded for this purpose")),
        }
    }

    pub(super) fn delete(&mut self, account: &str, id: &str) -> Result<Stored, Refusal> {
        self.get(account, id)?;
        self.remove(id).ok_or_else(|| self.not_found(id))
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<Stored> {
        let file = self.files.remove(id)?;
        if let Some(order) = self.order.get_mut(&file.account) {
            order.retain(|other| other != id);
        }
        if let Some(usage) = self.usage.get_mut(&file.account) {
            usage.bytes -= file.size;
            *usage.files.entry(file.purpose.clone()).or_default() -= 1;
            *usage.names.entry(file.filename.clone()).or_default() -= 1;
        }
        Some(file)
    }

    /// Drops what is past its retention.
    pub(super) fn expire(&mut self, now: Micros) -> Vec<Stored> {
        if self.settings.retention_days.is_none() {
            return Vec::new();
        }
        let gone: Vec<String> =
            self.files.values().filter(|f| f.expires.is_some_and(|at| at <= now)).map(|f| f.id.clone()).collect();
        gone.iter().filter_map(|id| self.remove(id)).collect()
    }

    // ===== rules =====

    fn invalid(&self, message: &str, code: &str) -> Refusal {
        match self.profile {
            Profile::Moonshot => refusals::moonshot_invalid(&format!("Invalid request: {message}")),
            profile => refusals::code(profile, code),
        }
    }

    fn check_purpose(&self, purpose: &str) -> Result<(), Refusal> {
        let strict: &[&str] = match self.profile {
            Profile::Moonshot | Profile::KimiCode => {
                &["file-extract", "batch", "batch_output", "lambda", "image", "video"]
            }
            Profile::Zai => &["agent"],
            Profile::ZhipuCn => {
                &["agent", "batch", "code-interpreter", "file-extract", "voice-clone-input", "fine-tune"]
            }
        };
        let lenient: &[&str] =
            &["batch", "fine-tune", "voice-clone-input", "retrieval", "file-extract", "code-interpreter"];
        let taken = strict.contains(&purpose)
            || self.settings.purposes == Purposes::Lenient && self.profile.speaks_zai() && lenient.contains(&purpose);
        match self.profile {
            _ if taken && purpose == "retrieval" => Err(refusals::zai_invalid("知识库id不能为空")),
            _ if taken => Ok(()),
            Profile::Moonshot => Err(refusals::moonshot_invalid(&format!(
                "Invalid purpose: {purpose}, only `file-extract`, `batch`, `batch_output`, `lambda`, `image` and `video` accepted"
            ))),
            _ => Err(refusals::zai_invalid(&format!("purpose {purpose} is illegal"))),
        }
    }

    fn check_size(&self, size: u64, purpose: &str, filename: &str) -> Result<(), Refusal> {
        let is_image = [".png", ".jpg", ".jpeg"].iter().any(|end| filename.to_ascii_lowercase().ends_with(end));
        let limit = match (self.profile, purpose) {
            (Profile::ZhipuCn, "agent" | "code-interpreter") if is_image => 5 << 20,
            (Profile::ZhipuCn, "agent" | "code-interpreter") => 20 << 20,
            _ => self.settings.max_file_bytes,
        };
        match (self.profile, size) {
            (Profile::Moonshot, 0) => {
                Err(refusals::moonshot_invalid("File size is zero, please confirm and re-upload the file"))
            }
            (_, 0) => Err(refusals::zai_invalid("file is empty")),
            (_, size) if size <= limit => Ok(()),
            (Profile::Moonshot, _) => Err(refusals::moonshot_invalid(
                "File size is too large, max file size is 100MB, please confirm and re-upload the file",
            )),
            _ => Err(Refusal { status: 435, ..refusals::zai_invalid("file size exceeds the limit") }),
        }
    }

    fn check_room(&self, account: &str, size: u64, purpose: &str) -> Result<(), Refusal> {
        let Some(usage) = self.usage.get(account) else { return Ok(()) };
        let of_purpose = usage.files.get(purpose).copied().unwrap_or(0);
        let (files, limit) = match (self.profile, purpose) {
            (Profile::ZhipuCn, "code-interpreter" | "file-extract") => (of_purpose, self.settings.max_files.min(100)),
            (Profile::ZhipuCn, _) => (of_purpose, self.settings.max_files),
            _ => (usage.files.values().sum(), self.settings.max_files),
        };
        let full = files >= limit || usage.bytes + size > self.settings.max_total_bytes;
        match self.profile {
            _ if !full => Ok(()),
            Profile::Moonshot => Err(refusals::moonshot_invalid(&format!(
                "The number of files you have uploaded exceeded the max file count {limit}, please delete previous uploaded files"
            ))),
            _ => Err(refusals::zai_invalid(&format!("the number of files exceeds the limit {limit}"))),
        }
    }

    /// Moonshot renames a second `report.txt` to `report (1).txt`.
    fn free_name(&mut self, account: &str, filename: String) -> String {
        let Some(usage) = self.usage.get_mut(account).filter(|_| self.settings.rename_on_clash) else {
            return filename;
        };
        let taken = |name: &str| usage.names.get(name).is_some_and(|count| *count > 0);
        if !taken(&filename) {
            return filename;
        }
        let (stem, extension) =
            filename.rfind('.').filter(|at| *at > 0).map_or((&*filename, ""), |at| filename.split_at(at));
        let mut number = usage.renamed.get(&filename).map_or(1, |latest| latest + 1);
        while taken(&format!("{stem} ({number}){extension}")) {
            number += 1;
        }
        let free = format!("{stem} ({number}){extension}");
        usage.renamed.insert(filename, number);
        free
    }

    fn extract(&self, purpose: &str, filename: &str, bytes: &Bytes) -> Result<Option<String>, Refusal> {
        if purpose == "video"
            && bytes.get(4..8).is_none_or(|tag| tag != b"ftyp")
            && !bytes.starts_with(b"\x1aE\xdf\xa3")
        {
            return Err(refusals::moonshot(500, "server_error", "InternalServerError"));
        }
        if purpose != "file-extract" {
            return Ok(None);
        }
        let is_image = [&b"\x89PNG"[..], b"\xff\xd8\xff", b"GIF8"].iter().any(|magic| bytes.starts_with(magic));
        if is_image && self.profile == Profile::Moonshot {
            return Err(refusals::moonshot_invalid("不支持的文件类型"));
        }
        match extract::text(filename, bytes) {
            Some(text) => Ok(Some(text)),
            None if self.profile == Profile::Moonshot => {
                Err(refusals::moonshot_invalid("text extract error: 没有解析出内容"))
            }
            None => Ok(Some(String::new())),
        }
    }

    fn not_found(&self, id: &str) -> Refusal {
        match (self.profile, self.settings.not_found) {
            (Profile::Moonshot, _) => refusals::moonshot(
                404,
                "resource_not_found_error",
                &format!("Not found the file {id} or Permission denied"),
            ),
            (_, NotFound::Code1214) => refusals::zai_invalid("file does not exist"),
            (_, NotFound::Status404) => Refusal { status: 404, ..refusals::zai_invalid("file does not exist") },
        }
    }

    // ===== how files are described =====

    pub(super) fn describe(&self, file: &Stored, beta: bool, now: Micros) -> Value {
        if beta {
            return json!({"id": file.id, "object": "file", "size_bytes": file.size, "created_at": rfc3339(file.created),
                          "filename": file.filename, "mime_type": file.mime, "purpose": file.purpose, "extract_status": "ready"});
        }
        let mut object = json!({"id": file.id, "object": "file", "bytes": file.size, "created_at": seconds(file.created),
                                "filename": file.filename, "purpose": file.purpose});
        let age = (now - file.created) as f64 / 1e6;
        let status = if age < self.settings.processing_seconds {
            &self.settings.processing_word
        } else {
            &self.settings.status_word
        };
        if self.profile == Profile::Moonshot {
            object["file_type"] = json!(file.mime);
            object["status_details"] = json!("");
        }
        if !status.is_empty() {
            object["status"] = json!(status);
        }
        if self.settings.filename_null {
            object["fileName"] = object["filename"].take();
        }
        object
    }
}
