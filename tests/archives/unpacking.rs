//! Archives of class folders: what is unpacked, and what is refused.

use super::*;

#[test]
fn an_archive_of_class_folders_is_data_and_unpacked_once_by_its_content() {
    let files = class_files("PetImages");
    let parts: Vec<(&str, &[u8])> = files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    for (name, bytes) in [("pets.zip", zip(&parts)), ("pets.tar.gz", tar_gz(&files)), ("pets.TGZ", tar_gz(&files))] {
        let root = folder();
        let (archive, cache) = (root.path().join(name), root.path().join("cache"));
        put(&archive, &bytes);
        let dataset = data(&archive, &cache).expect(name);
        assert_eq!((dataset.name.as_str(), dataset.len()), ("pets", 20));
        assert_eq!(dataset.classes, ["Cat", "Dog"]);
        assert!(dataset.root.starts_with(&cache) && dataset.root.ends_with("PetImages"), "{:?}", dataset.root);
        let first = names(&cache);
        assert_eq!(first.len(), 1, "{first:?}");
        data(&archive, &cache).expect("again");
        assert_eq!(names(&cache), first);
        // Another content under the same name.
        put(&archive, &tar_gz(&class_files("other")));
        if name != "pets.zip" {
            assert!(data(&archive, &cache).expect("changed").root.ends_with("other"));
            assert_eq!(names(&cache).len(), 2);
        }
    }
}

#[test]
fn an_archive_by_parallel_gzip_is_read_to_its_end() {
    let files = class_files("p");
    let whole = tar_gz(&files);
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(whole.as_slice()), &mut plain).expect("tar");
    let member = |part: &[u8]| {
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(part).expect("gz");
        gz.finish().expect("gz")
    };
    let half = plain.len() / 2;
    let root = folder();
    put(&root.path().join("p.tgz"), &[member(&plain[..half]), member(&plain[half..]), vec![0; 512]].concat());
    assert_eq!(data(&root.path().join("p.tgz"), &root.path().join("cache")).expect("data").len(), 20);
}

/// Fails unless the archive is refused with the text and nothing at all is left of it.
#[track_caller]
fn refused(name: &str, bytes: &[u8], limits: Limits, text: &str) {
    let root = folder();
    let archive = root.path().join("in").join(name);
    put(&archive, bytes);
    let target = root.path().join("cache/deep/unpacked");
    let container = Container::of(&archive).expect("an archive");
    let said = message(unpack(&archive, container, &target, Wanted::Everything, limits));
    assert!(said.contains(name) && said.contains(text), "{text:?} is not in {said:?}");
    assert!(names(&root.path().join("cache/deep")).is_empty(), "something is left");
    let mut all = names(root.path());
    all.sort();
    assert_eq!(all, ["cache", "in"], "something was written outside");
}

#[test]
fn a_zip_cannot_write_outside_its_folder() {
    let all = Limits::default();
    refused("bad.zip", &zip(&[("a/1.png", b"x"), ("../../escaped.txt", b"x")]), all, "outside of the folder");
    refused("bad.zip", &zip(&[("a/1.png", b"x"), ("a/../../../e.txt", b"x")]), all, "outside of the folder");
    refused("bad.zip", &zip(&[("a/1.png", b"x"), ("/ft-escaped.txt", b"x")]), all, "outside of the folder");
    refused("bad.zip", &zip(&[("a/1.png", b"x"), ("..\\..\\e.txt", b"x")]), all, "outside of the folder");
    let mut linked = zip::ZipWriter::new(Cursor::new(Vec::new()));
    linked.add_symlink("a/link", "/etc/passwd", SimpleFileOptions::default()).expect("link");
    refused("bad.zip", &linked.finish().expect("zip").into_inner(), all, "a link");
}

#[test]
fn an_archive_that_is_cut_short_or_damaged_leaves_nothing() {
    let all = Limits::default();
    let (packed, tar) = (zip(&[("a/1.bin", &[7; 5000]), ("b/2.bin", &png(2))]), tar_gz(&class_files("p")));
    refused("cut.zip", &packed[..packed.len() - 30], all, "cut short or damaged");
    refused("cut.zip", &packed[..packed.len() / 2], all, "cut short or damaged");
    refused("cut.tgz", &tar[..tar.len() / 2], all, "cut short");
    refused("cut.tgz", &tar[..tar.len() - 4], all, "cut short");
    refused("page.zip", b"<html>404</html>", all, "cut short or damaged");
    refused("page.tgz", b"<html>404</html>", all, "damaged or of another kind");
    let mut flipped = tar.clone();
    let at = flipped.len() - 6;
    flipped[at] ^= 1; // in the checksum at the end
    refused("flipped.tgz", &flipped, all, "damaged");
    let plain = zip(&[("a/1.bin", b"0123456789")]);
    let mut lying = plain.clone();
    // The size in the list at the end of the zip says 3 instead of 10.
    let list = plain.windows(4).position(|w| w == b"PK\x01\x02").expect("the list");
    lying[list + 24] = 3;
    refused("lying.zip", &lying, all, "cannot unpack");
}

#[test]
fn a_bomb_is_refused_before_it_is_unpacked() {
    let small = Limits { always: 1 << 16, ..Limits::default() };
    let zeros = vec![0u8; 4 << 20];
    refused("bomb.zip", &zip(&[("a/zeros.bmp", &zeros)]), small, "100 times as large");
    refused("bomb.tgz", &tar_gz(&[("a/zeros.bmp".into(), zeros.clone())]), small, "100 times as large");
    let tiny = Limits { bytes: 1000, ..Limits::default() };
    refused("large.zip", &zip(&[("a/1", &[1; 600]), ("a/2", &[2; 600])]), tiny, "larger than 1000 bytes");
    refused(
        "large.tgz",
        &tar_gz(&[("a/1".into(), vec![1; 600]), ("a/2".into(), vec![2; 600])]),
        tiny,
        "larger than 1000",
    );
    let few = Limits { entries: 1, ..Limits::default() };
    refused("many.zip", &zip(&[("a/1", b""), ("a/2", b"")]), few, "more than 1 entries");

    // A header that claims a terabyte is refused without its terabyte.
    let mut header = tar::Header::new_gnu();
    header.set_path("a/1.png").expect("path");
    header.set_size(1 << 40);
    header.set_cksum();
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(header.as_bytes()).and_then(|()| gz.write_all(&[0; 1024])).expect("gz");
    refused("claim.tgz", &gz.finish().expect("gz"), Limits::default(), "larger than");
}

#[test]
fn only_the_wanted_folders_are_unpacked_under_their_new_names() {
    let root = folder();
    let archive = root.path().join("x.zip");
    let entries: [(&str, &[u8]); 4] =
        [("PetImages/Cat/1.jpg", b"c"), ("PetImages/Dog/1.jpg", b"d"), ("readme.txt", b"r"), ("PetImages/x.db", b"x")];
    put(&archive, &zip(&entries));
    let target = root.path().join("out");
    let renamed = [("PetImages/Cat", "cat"), ("PetImages/Dog", "dog")];
    unpack(&archive, Container::Zip, &target, Wanted::Folders(&renamed), Limits::default()).expect("unpacked");
    let mut found = names(&target);
    found.sort();
    assert_eq!(found, ["cat", "dog"]);
    assert_eq!(fs::read(target.join("dog/1.jpg")).expect("file"), b"d");
}

#[test]
fn what_a_killed_unpacking_left_is_removed_after_a_day() {
    let root = folder();
    let (old, new) = (root.path().join("cache/.ft-unpack-old"), root.path().join("cache/.ft-unpack-new"));
    for path in [&old, &new] {
        put(&path.join("a/1.png"), b"x");
    }
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(25 * 3600);
    fs::File::open(&old).and_then(|f| f.set_modified(then)).expect("age");
    put(&root.path().join("x.zip"), &zip(&[("a/1.png", b"x")]));
    let target = root.path().join("cache/x");
    unpack(&root.path().join("x.zip"), Container::Zip, &target, Wanted::Everything, Limits::default())
        .expect("unpacked");
    assert!(!old.exists() && new.exists() && target.is_dir());
}
