//! A headless Chromium driven over the DevTools protocol through pipes, so that the tests need no other program or crate.
//!
//! The browser is the program that `FT_BROWSER` names, else the first of [`NAMES`] on `PATH`. Without one the tests that need it
//! say so and pass; with `FT_BROWSER` set a browser that does not start fails them.
#![allow(dead_code)] // each test binary uses a part of it

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Longest time that the browser may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Background work of a browser that would reach for the network, or ask.
const SWITCHES: &str = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --remote-debugging-pipe --no-first-run \
    --disable-background-networking --disable-component-update --disable-sync --disable-quic --disable-default-apps \
    --disable-extensions --mute-audio --hide-scrollbars --force-color-profile=srgb";

/// A running browser.
pub struct Browser {
    process: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    /// Events that no one has asked for yet.
    events: VecDeque<Value>,
    next_id: u64,
    /// The browser's own files; removed with it.
    _profile: TempDir,
}

impl Browser {
    /// Starts the browser; `None`, and a line on stderr, if there is none on this machine.
    pub fn start() -> Option<Self> {
        let Some(program) = program() else {
            eprintln!(
                "SKIPPED: no Chromium was found (looked for FT_BROWSER and {}): the report page is not tested in a browser",
                NAMES.join(", ")
            );
            return None;
        };
        let profile = tempfile::tempdir().expect("a folder for the browser");
        // The protocol speaks through the descriptors 3 and 4; these become the pipes of the child.
        let script = format!("exec \"$0\" {SWITCHES} --user-data-dir=\"$1\" 3<&0 4>&1 >/dev/null 2>/dev/null");
        let mut process = Command::new("sh")
            .arg("-c")
            .arg(script)
            .arg(&program)
            .arg(profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        let input = process.stdin.take().expect("stdin of the browser");
        let output = process.stdout.take().expect("stdout of the browser");
        let (sender, messages) = channel();
        thread::spawn(move || {
            for message in BufReader::new(output).split(0) {
                let Ok(message) = message else { return };
                let value = serde_json::from_slice(&message).expect("JSON from the browser");
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        let browser = Self { process, input, messages, events: VecDeque::new(), next_id: 0, _profile: profile };
        Some(browser)
    }

    /// Sends a command and waits for its answer.
    pub fn call(&mut self, session: Option<&str>, method: &str, params: Value) -> Value {
        self.next_id += 1;
        let id = self.next_id;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&message).expect("JSON");
        bytes.push(0);
        let sent = self.input.write_all(&bytes).and_then(|()| self.input.flush());
        sent.unwrap_or_else(|e| panic!("the browser does not take {method}: {e}; did it start?"));
        loop {
            let answer = self.receive(PATIENCE).unwrap_or_else(|| panic!("no answer to {method}"));
            if answer["id"] == json!(id) {
                assert!(answer.get("error").is_none(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.events.push_back(answer);
        }
    }

    /// The next message, or `None` after `patience`.
    fn receive(&self, patience: Duration) -> Option<Value> {
        match self.messages.recv_timeout(patience) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the browser has ended; does it start by hand?"),
        }
    }

    /// Waits for an event of a session.
    fn wait_for(&mut self, session: &str, method: &str) -> Value {
        let wanted = |event: &Value| event["sessionId"] == session && event["method"] == method;
        if let Some(place) = self.events.iter().position(wanted) {
            return self.events.remove(place).expect("an event that was there");
        }
        let end = Instant::now() + PATIENCE;
        while let Some(event) = self.receive(end.saturating_duration_since(Instant::now())) {
            if wanted(&event) {
                return event;
            }
            self.events.push_back(event);
        }
        panic!("no {method} from the browser")
    }

    /// Opens a file in a new tab of the given size and scheme of colours, and waits until it has loaded.
    pub fn open(&mut self, file: &Path, width: u32, height: u32, scheme: &str) -> Tab<'_> {
        let target = self.call(None, "Target.createTarget", json!({ "url": "about:blank" }));
        let target = target["targetId"].as_str().expect("a tab").to_owned();
        let attached = self.call(None, "Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        let session = attached["sessionId"].as_str().expect("a session").to_owned();
        let mut tab = Tab { browser: self, session, target };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            tab.call(&format!("{domain}.enable"), json!({}));
        }
        tab.resize(width, height);
        tab.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
        );
        let address = format!("file://{}", file.display());
        let answer = tab.call("Page.navigate", json!({ "url": address }));
        assert!(answer.get("errorText").is_none(), "{address}: {answer}");
        tab.browser.wait_for(&tab.session.clone(), "Page.loadEventFired");
        tab.settle();
        tab
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Best effort: a browser that is gone already needs no ending.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("FT_BROWSER") {
        let named = PathBuf::from(named);
        assert!(named.is_file() || found_on_path(&named).is_some(), "FT_BROWSER: there is no {}", named.display());
        return Some(named);
    }
    NAMES.iter().find_map(|name| found_on_path(Path::new(name)))
}

fn found_on_path(name: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// A page in the browser; closed when dropped.
pub struct Tab<'a> {
    browser: &'a mut Browser,
    session: String,
    target: String,
}

impl Tab<'_> {
    /// Sends a command to this page.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        let session = self.session.clone();
        self.browser.call(Some(&session), method, params)
    }

    /// The value of an expression; a promise is waited for.
    #[track_caller]
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", params);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// [`Self::evaluate`] of what gives text.
    #[track_caller]
    pub fn text(&mut self, expression: &str) -> String {
        let value = self.evaluate(expression);
        value.as_str().unwrap_or_else(|| panic!("{expression} is {value}, not text")).to_owned()
    }

    /// Waits until what was changed has been drawn.
    pub fn settle(&mut self) {
        self.evaluate(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 30))))",
        );
    }

    /// Changes the size of the window.
    pub fn resize(&mut self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// The middle of the first element that matches, after scrolling to it.
    #[track_caller]
    fn middle_of(&mut self, selector: &str) -> (f64, f64) {
        let place = self.evaluate(&format!(
            "(() => {{ const e = document.querySelector({}); if (!e) return null; e.scrollIntoView({{ block: 'center' }});
              const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }})()",
            json!(selector)
        ));
        let axis = |i: usize| place[i].as_f64().unwrap_or_else(|| panic!("nothing on the page matches {selector}"));
        (axis(0), axis(1))
    }

    /// Moves the mouse to a share of the width of an element.
    #[track_caller]
    pub fn hover(&mut self, selector: &str, share: f64) {
        let (x, y) = self.middle_of(selector);
        let width =
            self.evaluate(&format!("document.querySelector({}).getBoundingClientRect().width", json!(selector)));
        let x = x + (share - 0.5) * width.as_f64().expect("a width");
        self.call("Input.dispatchMouseEvent", json!({ "type": "mouseMoved", "x": x, "y": y }));
        self.settle();
    }

    /// Clicks into the middle of the first element that matches.
    #[track_caller]
    pub fn click(&mut self, selector: &str) {
        let (x, y) = self.middle_of(selector);
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
        self.settle();
    }

    /// Presses a key: `Enter`, `Tab`, `ArrowRight`.
    pub fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Enter" => (13, Some("\r")),
            "Tab" => (9, None),
            "End" => (35, None),
            "Home" => (36, None),
            "ArrowLeft" => (37, None),
            "ArrowRight" => (39, None),
            other => panic!("no code for the key {other}"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            if let (Some(text), "keyDown") = (text, kind) {
                event["text"] = json!(text);
            }
            self.call("Input.dispatchKeyEvent", event);
        }
        self.settle();
    }

    /// Gives the keyboard to the first element that matches, as Tab would.
    #[track_caller]
    pub fn focus(&mut self, selector: &str) {
        self.middle_of(selector);
        self.evaluate(&format!("document.querySelector({}).focus({{ focusVisible: true }})", json!(selector)));
        self.settle();
    }

    /// What went wrong in the page so far: errors and warnings of the console, exceptions, and requests that leave the file.
    pub fn problems(&mut self) -> Vec<String> {
        self.settle();
        let session = self.session.clone();
        let of_page = self.browser.events.iter().filter(|event| event["sessionId"] == session.as_str());
        let problem = |event: &Value| {
            let params = &event["params"];
            match event["method"].as_str()? {
                "Runtime.exceptionThrown" => Some(params["exceptionDetails"].to_string()),
                "Runtime.consoleAPICalled" if params["type"] != "log" => Some(params.to_string()),
                "Log.entryAdded" => Some(params["entry"].to_string()),
                "Network.requestWillBeSent" => {
                    let address = params["request"]["url"].as_str().unwrap_or_default();
                    let inside = ["file:", "data:", "about:"].iter().any(|scheme| address.starts_with(scheme));
                    (!inside).then(|| format!("a request to {address}"))
                }
                _ => None,
            }
        };
        of_page.filter_map(problem).collect()
    }

    /// What the pictures are called that do not load, those that are further down included.
    pub fn broken_pictures(&mut self) -> Value {
        self.evaluate(
            "Promise.all([...document.images].map((i) => { i.loading = 'eager'; return i.decode().then(() => null, () => i.alt); }))
               .then((found) => found.filter((alt) => alt !== null)
                 .concat([...document.images].filter((i) => i.naturalWidth === 0).map((i) => i.alt)))",
        )
    }

    /// A picture of the whole page as PNG in base64.
    pub fn screenshot(&mut self) -> String {
        let whole = json!({ "format": "png", "captureBeyondViewport": true });
        let answer = self.call("Page.captureScreenshot", whole);
        answer["data"].as_str().expect("a picture").to_owned()
    }

    /// The printed page as PDF in base64.
    pub fn print(&mut self) -> String {
        let answer = self.call("Page.printToPDF", json!({ "printBackground": false, "preferCSSPageSize": true }));
        answer["data"].as_str().expect("a document").to_owned()
    }
}

impl Drop for Tab<'_> {
    fn drop(&mut self) {
        let target = self.target.clone();
        if !thread::panicking() {
            self.browser.call(None, "Target.closeTarget", json!({ "targetId": target }));
        }
        let session = self.session.clone();
        self.browser.events.retain(|event| event["sessionId"] != session.as_str());
    }
}
