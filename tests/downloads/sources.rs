//! Where weights come from: mirrors, hubs, caches, files.

use super::*;

fn manifest(server: &Server) -> Manifest {
    let contract = "licence = \"none\"\npreprocessing = { normalization = { mode = \"caffe\" }, \
                    interpolation = \"bilinear\", antialias = false, fit = { fit = \"squash\" } }";
    let text = format!(
        "[[weights]]\nname = \"a-url\"\narchitecture = \"a\"\nurls = [\"{}\"]\nhash = \"sha256:{}\"\n{contract}\n\
         [[weights]]\nname = \"a-unhashed\"\narchitecture = \"a\"\nurls = [\"{}\"]\n{contract}\n\
         [[weights]]\nname = \"b-hub\"\narchitecture = \"b\"\nhub = {{ repo = \"owner/b\", file = \"model.safetensors\" }}\n{contract}\n",
        server.url("/a_weights.h5"),
        sha256(b"weights of a"),
        server.url("/unhashed.h5"),
    );
    Manifest::parse(&text).expect("a manifest")
}

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Files by URL, and a hub whose large files lie on "another" host, as the real one.
fn source_server() -> Server {
    Server::start(|asked, _| match asked.path.as_str() {
        "/a_weights.h5" => Reply::of(b"weights of a", asked),
        "/unhashed.h5" | "/some.pth?download=1" => Reply::of(b"unhashed", asked),
        "/owner/b/resolve/main/model.safetensors" | "/new/b/resolve/main/model.safetensors" => {
            if asked.path.starts_with("/new") && asked.header("authorization") != Some("Bearer secret") {
                return Reply::status(401).header("X-Error-Message", "gated");
            }
            Reply::status(302)
                .header("Location", &format!("http://{}/store/b", asked.header("host").expect("a host")))
                .header("X-Repo-Commit", COMMIT)
                .header("X-Linked-Size", "12")
                .header("X-Linked-ETag", &format!("\"{}\"", sha256(b"weights of b")))
        }
        "/old/b/resolve/main/model.safetensors" => {
            Reply::status(307).header("Location", "/new/b/resolve/main/model.safetensors")
        }
        "/store/b" => Reply::of(b"weights of b", asked),
        "/owner/b/resolve/v2/sub/small.h5" => Reply::of(b"small", asked)
            .header("X-Repo-Commit", COMMIT)
            .header("ETag", "\"5f2b4a1d0c9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a\""),
        "/owner/evil/resolve/main/model.safetensors" => {
            Reply::whole(b"x").header("X-Repo-Commit", "../../..").header("ETag", "\"e\"")
        }
        _ => Reply::status(404).header("X-Error-Message", "Entry not found"),
    })
}

struct Place {
    folder: tempfile::TempDir,
    manifest: Manifest,
    endpoint: String,
}

impl Place {
    fn new(server: &Server) -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), manifest: manifest(server), endpoint: server.url("") }
    }

    fn resolve(&self, source: &str, offline: bool) -> anyhow::Result<Resolved<'_>> {
        let hub = Hub::new(&self.endpoint, self.folder.path().join("hub"), Some("secret".into()), FAST);
        let cache = self.folder.path().join("cache");
        Resolver { manifest: &self.manifest, cache, hub, offline, patience: FAST, progress: &Quiet }.resolve(source)
    }
}

#[test]
fn a_known_name_is_fetched_once_and_comes_with_its_contract() {
    let server = source_server();
    let place = Place::new(&server);
    for offline in [false, true] {
        let resolved = place.resolve("a-url", offline).expect("resolved");
        assert_eq!(resolved.sha256, sha256(b"weights of a"));
        assert_eq!(resolved.entry.map(|e| e.name.as_str()), Some("a-url"));
        assert_eq!(fs::read(&resolved.path).expect("the file"), b"weights of a");
    }
    assert_eq!(server.asked().len(), 1);
    let error = format!("{:#}", place.resolve("a-unhashed", true).expect_err("offline"));
    assert!(error.contains("a-unhashed") && error.contains("put it at that path"), "{error}");
}

#[test]
fn weights_without_a_published_hash_must_stay_what_they_were_at_first() {
    let server = source_server();
    let place = Place::new(&server);
    let resolved = place.resolve("a-unhashed", false).expect("resolved");
    let path = resolved.path.clone();
    place.resolve("a-unhashed", false).expect("resolved again");
    fs::write(&path, b"tampered").expect("written");
    let error = format!("{:#}", place.resolve("a-unhashed", false).expect_err("changed"));
    assert!(error.contains("it was changed") && error.contains(&sha256(b"unhashed")), "{error}");
}

#[test]
fn an_address_is_fetched_into_a_folder_of_its_own() {
    let server = source_server();
    let place = Place::new(&server);
    let url = server.url("/some.pth?download=1");
    let resolved = place.resolve(&url, false).expect("resolved");
    assert_eq!(resolved.path.file_name().and_then(|n| n.to_str()), Some("some.pth"));
    assert_eq!((resolved.entry, fs::read(&resolved.path).expect("the file")), (None, b"unhashed".to_vec()));
    assert_eq!(place.resolve(&url, true).expect("cached").path, resolved.path);
    // An address of the manifest is that entry, hash and all.
    assert_eq!(
        place.resolve(&server.url("/a_weights.h5"), false).expect("known").entry.map(|e| e.name.as_str()),
        Some("a-url")
    );
}

#[test]
fn a_local_file_is_recognised_by_hash_or_name() {
    let server = source_server();
    let place = Place::new(&server);
    let put = |name: &str, content: &[u8]| {
        let path = place.folder.path().join(name);
        fs::write(&path, content).expect("written");
        path.display().to_string()
    };
    for (path, entry) in [
        (put("renamed.h5", b"weights of a"), Some("a-url")),
        (put("a_weights.h5", b"fine-tuned"), Some("a-url")),
        (put("a_weights.f16.h5", b"as float16"), Some("a-url")),
        (put("mine.h5", b"mine"), None),
    ] {
        let resolved = place.resolve(&path, true).expect("resolved");
        assert_eq!(resolved.entry.map(|e| e.name.as_str()), entry, "{path}");
        assert_eq!(resolved.path, Path::new(&path));
    }
}

#[test]
fn hub_files_lie_in_the_cache_that_other_tools_share() {
    let server = source_server();
    let place = Place::new(&server);
    for offline in [false, true] {
        let resolved = place.resolve("b-hub", offline).expect("resolved");
        let folder = place.folder.path().join("hub/models--owner--b");
        assert_eq!(resolved.path, folder.join(format!("snapshots/{COMMIT}/model.safetensors")));
        assert_eq!(resolved.entry.map(|e| e.name.as_str()), Some("b-hub"));
        assert_eq!(fs::read(&resolved.path).expect("the file"), b"weights of b");
        assert_eq!(fs::read_to_string(folder.join("refs/main")).expect("the ref"), COMMIT);
        assert_eq!(names(&folder.join("blobs")), BTreeSet::from([sha256(b"weights of b")]));
    }
    // Metadata, then the file with its redirect; nothing the second time.
    let asked = server.asked();
    let methods: Vec<(&str, &str)> = asked.iter().map(|a| (a.method.as_str(), a.path.as_str())).collect();
    let file = "/owner/b/resolve/main/model.safetensors";
    assert_eq!(methods, [("HEAD", file), ("GET", file), ("GET", "/store/b")]);
    assert_eq!(asked[0].header("authorization"), Some("Bearer secret"));
}

#[test]
fn hub_sources_may_name_file_and_revision() {
    let server = source_server();
    let place = Place::new(&server);
    let resolved = place.resolve("hf:owner/b/sub/small.h5@v2", false).expect("resolved");
    assert!(resolved.path.ends_with(format!("snapshots/{COMMIT}/sub/small.h5")));
    assert_eq!(fs::read(&resolved.path).expect("the file"), b"small");
    assert_eq!(resolved.entry, None);
    // By its commit it is found too, without the network.
    assert_eq!(place.resolve(&format!("hf:owner/b/sub/small.h5@{COMMIT}"), true).expect("cached").path, resolved.path);
    // The default file of a known repository is the known entry.
    assert_eq!(place.resolve("hf:owner/b", false).expect("resolved").entry.map(|e| e.name.as_str()), Some("b-hub"));
    // A renamed repository redirects within the hub, and the token goes along.
    assert!(place.resolve("hf:old/b", false).is_ok());
}

#[test]
fn hub_errors_say_what_is_wrong() {
    let server = source_server();
    let place = Place::new(&server);
    for (source, offline, said) in [
        ("hf:owner/none", false, "Entry not found"),
        ("hf:owner/none", true, "ft is offline"),
        ("hf:owner/evil", false, "does not answer like a Hugging Face hub"),
    ] {
        let error = format!("{:#}", place.resolve(source, offline).expect_err("refused"));
        assert!(error.contains(said), "{source}: {error}");
    }
    let escape = place.resolve("hf:owner/b/../../x", false).expect_err("refused");
    assert!(escape.downcast_ref::<UsageError>().is_some(), "{escape:#}");
    let gated = Hub::new(&place.endpoint, place.folder.path().join("hub2"), None, FAST);
    let resolver = Resolver {
        manifest: &place.manifest,
        cache: place.folder.path().join("cache"),
        hub: gated,
        offline: false,
        patience: FAST,
        progress: &Quiet,
    };
    let error = format!("{:#}", resolver.resolve("hf:new/b").expect_err("gated"));
    assert!(error.contains("gated") && error.contains("HF_TOKEN"), "{error}");
}

#[test]
fn unknown_weights_are_a_usage_error_with_a_suggestion() {
    let server = source_server();
    let place = Place::new(&server);
    let error = place.resolve("a-unhased", false).expect_err("unknown");
    assert!(error.downcast_ref::<UsageError>().is_some(), "{error:#}");
    assert!(error.to_string().contains("did you mean a-unhashed?"), "{error:#}");
    let folder = place.folder.path().display().to_string();
    assert!(place.resolve(&folder, false).expect_err("a folder").to_string().contains("is a folder"));
    assert!(server.asked().is_empty());
}

#[test]
fn the_manifest_inside_the_binary_is_sound() {
    let text = include_str!("../../weights/manifest.toml");
    let parsed = Manifest::parse(text).expect("the manifest");
    assert_eq!(parsed.entries, ft::weights::manifest().entries);
    for architecture in [
        "resnet50",
        "resnet101",
        "resnet50v2",
        "resnet101v2",
        "vgg16",
        "resnet50-torch",
        "resnet101-torch",
        "vgg16-torch",
        "resnetv2_50",
        "resnetv2_101",
    ] {
        assert!(ft::weights::default_for(architecture).is_some(), "{architecture}");
        assert_eq!(ft::weights::contract_for(architecture).map(|e| e.architecture.as_str()), Some(architecture));
    }
    let error = ft::weights::find("resnet50v2-kers").expect_err("unknown");
    assert!(error.to_string().contains("did you mean resnet50v2-keras?"), "{error:#}");
    for bad in [
        text.replace("md5:", "md4:"),
        text.replace("resnet101-keras", "resnet50-keras"),
        text.replace("licence", "license"),
    ] {
        assert!(Manifest::parse(&bad).is_err());
    }
}
