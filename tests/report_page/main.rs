//! The report page: what its file contains, and how it behaves in a browser.

#[path = "../browser/mod.rs"]
mod browser;
mod command;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/networks.rs"]
mod networks;
#[path = "../sample_page/mod.rs"]
mod sample_page;
mod screens;
#[path = "../workshop/mod.rs"]
mod workshop;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use browser::{Browser, Tab};
use ft::report::page::data::{Page, RunPage};
use ft::report::page::html;
use ft::report::page::pictures::{RIGHT_PER_CLASS, THUMBNAILS, chosen_for_thumbnails};
use serde_json::{Value, json};
use tempfile::TempDir;

/// One browser for all tests, which take turns.
static BROWSER: LazyLock<Mutex<Option<Browser>>> = LazyLock::new(|| Mutex::new(Browser::start()));

const DESKTOP: (u32, u32) = (1280, 900);

fn browser() -> MutexGuard<'static, Option<Browser>> {
    BROWSER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A page as a file.
struct File {
    _folder: TempDir,
    path: PathBuf,
}

fn file(page: &Page) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    html::write(&path, page).unwrap();
    File { _folder: folder, path }
}

/// Runs a check on a page in the browser, if there is one; the page must have no problem in the end.
fn in_browser(page: &Page, size: (u32, u32), scheme: &str, check: impl FnOnce(&mut Tab)) {
    let file = file(page);
    file_in_browser(&file.path, size, scheme, check);
}

/// [`in_browser`] of a file.
fn file_in_browser(file: &Path, (width, height): (u32, u32), scheme: &str, check: impl FnOnce(&mut Tab)) {
    let mut browser = browser();
    let Some(browser) = browser.as_mut() else { return };
    let mut tab = browser.open(file, width, height, scheme);
    check(&mut tab);
    let problems = tab.problems();
    assert!(problems.is_empty(), "{problems:#?}");
    assert_eq!(tab.broken_pictures(), json!([]), "pictures that did not load");
}

/// What is wider than the window and does not lie in a box that scrolls.
#[track_caller]
fn assert_nothing_sticks_out(tab: &mut Tab) {
    let page = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth");
    assert_eq!(page, json!(0), "the page scrolls sideways");
    let wide = tab.evaluate(
        "[...document.querySelectorAll('main *')].filter((e) => {
           if (e.closest('.scroll, pre, .contents ul, .tabs, .hidden, details:not([open])')) return false;
           const b = e.getBoundingClientRect();
           return b.width > 0 && b.right > document.documentElement.clientWidth + 1;
         }).map((e) => `${e.tagName} ${e.getAttribute('class')} ${e.textContent.slice(0, 40)}`)",
    );
    assert_eq!(wide, json!([]), "wider than the window");
}

/// A cell of the confusion matrix.
fn cell(truth: usize, predicted: usize) -> String {
    format!(".matrix tbody tr:nth-child({}) td:nth-child({}) button", truth + 1, predicted + 2)
}

/// The photos that the chosen cell shows.
fn shown_photos(tab: &mut Tab) -> Vec<String> {
    let names = tab.evaluate("[...document.querySelectorAll('.cell-photos img')].map((i) => i.alt)");
    serde_json::from_value(names).unwrap()
}

/// The photos that a cell should show: all that have a picture.
fn photos_of_cell(run: &RunPage, truth: usize, predicted: usize) -> Vec<String> {
    let rows = &run.evaluation.as_ref().unwrap().predictions;
    let mut rows: Vec<_> =
        rows.iter().filter(|r| (r.truth, r.predicted) == (truth, predicted) && r.thumbnail.is_some()).collect();
    rows.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    rows.iter().map(|row| row.path.clone()).collect()
}

#[test]
fn a_page_loads_without_errors_requests_or_broken_pictures() {
    let page = sample_page::page();
    in_browser(&page, DESKTOP, "light", |tab| {
        let headings = tab.evaluate("[...document.querySelectorAll('h3')].map((h) => h.textContent)");
        for heading in [
            "What was run",
            "What trained",
            "Curves",
            "Confusion matrix",
            "Each class",
            "Most confused pairs",
            "ROC and precision–recall",
            "Reliability",
            "Photos with the highest loss",
            "Where the model looks",
            "Through the depth of the network",
            "Feature maps",
            "Data",
            "Environment",
            "Reproduce",
        ] {
            assert!(headings.as_array().unwrap().contains(&json!(heading)), "no section {heading:?} in {headings}");
        }
        let evaluation = page.runs[0].evaluation.as_ref().unwrap();
        let figure = tab.text("document.querySelector('.tile strong').textContent");
        assert_eq!(figure, format!("{:.1} %", 100.0 * evaluation.accuracy.value));
        let pictures = tab.evaluate("document.images.length").as_u64().unwrap() as usize;
        assert!(pictures >= 48 + evaluation.highest_loss.len(), "{pictures} pictures");
        // Every link of the list of contents leads somewhere.
        let dead = tab.evaluate(
            "[...document.querySelectorAll('.contents a')].filter((a) => !document.querySelector(a.hash)).length",
        );
        assert_eq!(dead, json!(0));
        let repeated = tab.evaluate("(() => { const ids = [...document.querySelectorAll('[id]')].map((e) => e.id); return ids.length - new Set(ids).size; })()");
        assert_eq!(repeated, json!(0), "ids that two elements have");
    });
}

#[test]
fn cells_of_the_matrix_show_their_photos_by_mouse_and_by_keyboard() {
    let page = sample_page::page();
    let run = &page.runs[0];
    let evaluation = run.evaluation.as_ref().unwrap();
    in_browser(&page, DESKTOP, "light", |tab| {
        let counts = tab.evaluate(
            "[...document.querySelectorAll('.matrix tbody tr')].map((r) => [...r.querySelectorAll('button')].map((b) => Number(b.textContent)))",
        );
        assert_eq!(counts, json!(evaluation.confusion));
        // The most frequent confusion is open from the start.
        let first = &evaluation.confused_pairs[0];
        assert_eq!(shown_photos(tab), photos_of_cell(run, first.truth, first.predicted));

        let pair = evaluation.confused_pairs.last().unwrap();
        assert_ne!((pair.truth, pair.predicted), (first.truth, first.predicted));
        tab.click(&cell(pair.truth, pair.predicted));
        let expected = photos_of_cell(run, pair.truth, pair.predicted);
        assert_eq!(expected.len(), pair.photos, "every wrong photo has a picture");
        assert_eq!(shown_photos(tab), expected);
        let caption = tab.text("document.querySelector('.cell-photos figcaption').textContent");
        for word in [&evaluation.classes[pair.truth], &evaluation.classes[pair.predicted]] {
            assert!(caption.contains(word), "{caption}");
        }

        tab.focus(&cell(0, 0));
        tab.press("Enter");
        let right = photos_of_cell(run, 0, 0);
        assert_eq!(right.len(), RIGHT_PER_CLASS);
        assert_eq!(shown_photos(tab), right);
        let heading = tab.text("document.querySelector('.cell-photos h4').textContent");
        assert!(heading.contains(&format!("12 of {} shown", evaluation.confusion[0][0])), "{heading}");
        assert_eq!(tab.evaluate("document.querySelectorAll('.matrix [aria-pressed=true]').length"), json!(1));

        // A button of the confused pairs opens the same cell.
        tab.click("section[id$=pairs] tbody tr:nth-child(2) button");
        let second = &evaluation.confused_pairs[1];
        assert_eq!(shown_photos(tab), photos_of_cell(run, second.truth, second.predicted));
    });
}

#[test]
fn curves_tell_the_values_of_an_epoch_under_the_pointer_and_by_keyboard() {
    let page = sample_page::page();
    let epochs = &page.runs[0].epochs;
    let values =
        |n: usize| vec![format!("{:.4}", epochs[n - 1].train_loss), format!("{:.4}", epochs[n - 1].val_loss.unwrap())];
    let legend = |tab: &mut Tab| -> (String, Vec<String>) {
        let place = tab.text("document.querySelector('[id$=curves] .place').textContent");
        let read = tab.evaluate(
            "[...document.querySelector('[id$=curves] .legend').querySelectorAll('b')].map((b) => b.textContent)",
        );
        (place, serde_json::from_value(read).unwrap())
    };
    in_browser(&page, DESKTOP, "light", |tab| {
        assert_eq!(legend(tab), ("epoch 10 · best".to_owned(), values(10)));
        tab.hover("[id$=curves] .plot", 0.999);
        assert_eq!(legend(tab), ("epoch 12".to_owned(), values(12)));
        tab.hover("[id$=curves] .plot", 0.0);
        assert_eq!(legend(tab), ("epoch 1".to_owned(), values(1)));
        tab.hover("h2", 0.5);
        assert_eq!(legend(tab), ("epoch 10 · best".to_owned(), values(10)));

        tab.focus("[id$=curves] .plot");
        tab.press("ArrowLeft");
        assert_eq!(legend(tab), ("epoch 9".to_owned(), values(9)));
        tab.press("Home");
        tab.press("ArrowRight");
        assert_eq!(legend(tab), ("epoch 2".to_owned(), values(2)));
        let spoken = tab.text("document.querySelector('[id$=curves] .plot').getAttribute('aria-valuetext')");
        assert!(spoken.starts_with("epoch 2: training ") && spoken.contains(&values(2)[1]), "{spoken}");
        // The best epoch is marked in each chart.
        assert_eq!(tab.evaluate("document.querySelectorAll('[id$=curves] .best').length"), json!(3));
    });
}

#[test]
fn tables_sort_and_classes_of_the_curves_can_be_chosen() {
    let page = sample_page::page();
    let evaluation = page.runs[0].evaluation.as_ref().unwrap();
    in_browser(&page, DESKTOP, "light", |tab| {
        let classes = "[...document.querySelectorAll('[id$=classes] tbody th')].map((c) => c.textContent)";
        assert_eq!(tab.evaluate(classes), json!(evaluation.classes));
        tab.click("[id$=classes] thead th:nth-child(4) button");
        let mut rows: Vec<_> = evaluation.rows.iter().collect();
        rows.sort_by(|a, b| b.recall.unwrap().value.total_cmp(&a.recall.unwrap().value));
        let sorted: Vec<&str> = rows.iter().map(|row| row.class.as_str()).collect();
        assert_eq!(tab.evaluate(classes), json!(sorted));
        assert_eq!(
            tab.text("document.querySelector('[id$=classes] thead th:nth-child(4)').getAttribute('aria-sort')"),
            "descending"
        );
        tab.focus("[id$=classes] thead th:nth-child(4) button");
        tab.press("Enter");
        let reversed: Vec<&str> = sorted.into_iter().rev().collect();
        assert_eq!(tab.evaluate(classes), json!(reversed));

        let path = "document.querySelector('[id$=ranking] .line:not(.quiet)[d]').getAttribute('d')";
        let before = tab.text(path);
        tab.evaluate("(() => { const s = document.querySelector('[id$=ranking] select'); s.value = '3'; s.dispatchEvent(new Event('change')); })()");
        tab.settle();
        assert_ne!(tab.text(path), before);
        let legend = tab.text("document.querySelector('[id$=ranking] .legend').textContent");
        assert!(legend.contains("0.980") && legend.contains("sunflowers"), "{legend}");
    });
}

#[test]
fn intervals_are_written_out_and_what_stayed_frozen_is_said_in_words() {
    let page = sample_page::page();
    let rows = &page.runs[0].evaluation.as_ref().unwrap().rows;
    in_browser(&page, DESKTOP, "light", |tab| {
        let written =
            tab.evaluate("[...document.querySelectorAll('[id$=classes] .interval')].map((i) => i.textContent)");
        assert_eq!(written.as_array().unwrap().len(), 3 * rows.len(), "precision, recall and F1 of each class");
        let precision = rows[0].precision;
        assert_eq!(
            written[0],
            json!(format!("{:.1}–{:.1} %", 100.0 * precision.unwrap().low, 100.0 * precision.unwrap().high))
        );
    });
    for (freeze_before, said) in [
        ("all", "; the whole backbone stayed frozen."),
        ("none", "; nothing was frozen."),
        ("conv4", "; what lies before conv4 stayed frozen."),
    ] {
        let mut page = sample_page::page();
        page.runs[0].trained.as_mut().unwrap().freeze_before = freeze_before.to_owned();
        in_browser(&page, DESKTOP, "light", |tab| {
            let note = tab.text("document.querySelector('[id$=trained] .note').textContent");
            assert!(note.ends_with(said), "{note}");
        });
    }
}

#[test]
fn galleries_change_between_photo_map_and_both() {
    in_browser(&sample_page::page(), DESKTOP, "light", |tab| {
        let visible =
            "['of-photo', 'of-map'].map((c) => document.querySelector(`.${c}`).getBoundingClientRect().width > 0)";
        assert_eq!(tab.evaluate(visible), json!([true, true]));
        tab.click("[id$=looks] .choice label:nth-of-type(3)");
        assert_eq!(tab.evaluate(visible), json!([false, true]));
        tab.press("ArrowLeft");
        assert_eq!(tab.evaluate(visible), json!([true, false]));
    });
}

#[test]
fn several_runs_lie_behind_tabs_with_their_comparison_first() {
    let page = sample_page::comparison();
    in_browser(&page, DESKTOP, "light", |tab| {
        let open = "[...document.querySelectorAll('[role=tabpanel]')].filter((p) => !p.hidden).map((p) => p.id)";
        assert_eq!(tab.evaluate(open), json!(["comparison"]));
        let text = tab.text("document.getElementById('comparison').textContent");
        for part in ["their splits differ", "0.071", "21 / 10", "+3.1", "train.clip_norm", "not set"] {
            assert!(text.contains(part), "{part:?} is not said: {text}");
        }
        let lines = tab.evaluate("document.querySelector('[id$=curves] .plot').querySelectorAll('path.line').length");
        assert_eq!(lines, json!(2));
        let legend = tab.text("document.querySelector('[id$=curves] .legend').textContent");
        assert!(legend.contains("last epoch of each"), "{legend}");
        for run in &page.runs {
            let last = run.epochs.last().unwrap().val_loss.unwrap();
            assert!(legend.contains(&format!("{last:.4}")), "{last} is not in {legend}");
        }
        tab.focus("[role=tab]");
        tab.press("ArrowRight");
        tab.press("ArrowRight");
        assert_eq!(tab.evaluate(open), json!(["run-1"]));
        assert_eq!(tab.text("document.activeElement.textContent"), "vgg16-gap");
        tab.click("#run-0-tab");
        assert_eq!(tab.evaluate(open), json!(["run-0"]));
        assert_nothing_sticks_out(tab);
        // The curves of a run that was hidden at first fill their place.
        let (drawn, place) = (
            tab.evaluate("Number(document.querySelector('#run-0 .plot svg').getAttribute('viewBox').split(' ')[2])"),
            tab.evaluate("document.querySelector('#run-0 .plot').clientWidth"),
        );
        assert_eq!(drawn.as_f64(), place.as_f64());
    });
}

const HOSTILE: &str = "</script><img src=x onerror=\"window.broken = 1\"><!-- <b>&amp;";

/// A page whose every text tries to become markup.
fn with_hostile_names() -> Page {
    let mut page = sample_page::page();
    page.title = format!("Title {HOSTILE}");
    let run = &mut page.runs[0];
    for text in [&mut run.recipe, &mut run.dataset, &mut run.model, &mut run.command, &mut run.recipe_toml] {
        text.push_str(HOSTILE);
    }
    run.warnings = vec![HOSTILE.to_owned()];
    run.skipped[0].path = HOSTILE.to_owned();
    run.changes.rows[0].value = Some(HOSTILE.to_owned());
    run.pictures.method = HOSTILE.to_owned();
    run.pictures.wrong[0].path = HOSTILE.to_owned();
    run.pictures.features[0].layer = HOSTILE.to_owned();
    run.photos.insert(HOSTILE.to_owned(), 7);
    let evaluation = run.evaluation.as_mut().unwrap();
    evaluation.classes[0] = format!("daisy {HOSTILE}");
    evaluation.rows[0].class = format!("daisy {HOSTILE}");
    evaluation.split = HOSTILE.to_owned();
    for row in &mut evaluation.predictions {
        row.path.push_str(HOSTILE);
    }
    page
}

#[test]
fn names_never_become_markup() {
    let page = with_hostile_names();
    in_browser(&page, DESKTOP, "light", |tab| {
        assert_eq!(tab.evaluate("window.broken === undefined && !document.querySelector('img[src=x]')"), json!(true));
        assert_eq!(tab.text("document.title"), page.title);
        assert_eq!(tab.text("document.querySelector('h1').textContent"), page.title);
        assert_eq!(tab.text("document.querySelector('.warnings li').textContent"), HOSTILE);
        assert_eq!(tab.text("document.querySelector('.matrix tbody th').textContent"), format!("daisy {HOSTILE}"));
        tab.click(&cell(0, 0));
        assert!(shown_photos(tab)[0].ends_with(HOSTILE));
    });
}

#[test]
fn what_a_run_does_not_have_is_said_in_words() {
    let text = "document.getElementById('page').textContent";
    let mut failed = sample_page::page();
    failed.runs = vec![sample_page::failed_run()];
    in_browser(&failed, DESKTOP, "light", |tab| {
        let text = tab.text(text);
        for part in [
            "This run failed",
            "No epoch was completed",
            "did not reach its evaluation",
            "the run has no model",
            "the disk is full",
        ] {
            assert!(text.contains(part), "{part:?} is not said: {text}");
        }
        assert_eq!(
            tab.evaluate("document.querySelectorAll('table:not(section[id$=recipe] table), svg').length"),
            json!(0)
        );
    });

    let mut bare = sample_page::page();
    let run = &mut bare.runs[0];
    run.pictures = Default::default();
    run.pictures.absent = Some("the photos are gone.".to_owned());
    run.epochs.truncate(1);
    run.best_epoch = None;
    let evaluation = run.evaluation.as_mut().unwrap();
    evaluation.predictions.iter_mut().for_each(|row| row.thumbnail = None);
    evaluation.reliability.after = None;
    evaluation.reliability.temperature = None;
    evaluation.nll = f64::NAN;
    evaluation.rows[0].roc_auc = None;
    in_browser(&bare, DESKTOP, "light", |tab| {
        let said = tab.text(text);
        assert!(said.contains("the photos are gone.") && said.contains("no validation photos"), "{said}");
        assert!(!said.contains("NaN") && !said.contains("null") && !said.contains("undefined"), "{said}");
        tab.click(&cell(0, 0));
        let names = tab.evaluate("document.querySelectorAll('.cell-photos .names li').length");
        let photos = bare.runs[0].evaluation.as_ref().unwrap().confusion[0][0];
        assert_eq!(names, json!(photos.min(40)));
        assert_nothing_sticks_out(tab);
    });

    let mut empty = sample_page::comparison();
    for run in &mut empty.runs {
        *run = RunPage { id: run.id.clone(), ..sample_page::failed_run() };
    }
    for row in &mut empty.comparison.as_mut().unwrap().rows {
        (row.accuracy, row.macro_f1, row.nll, row.ece, row.difference) = (None, None, None, None, None);
    }
    in_browser(&empty, DESKTOP, "light", |tab| {
        let said = tab.text(text);
        assert!(said.contains("No run has completed an epoch") && !said.contains("undefined"), "{said}");
    });
}

#[test]
fn many_classes_and_epochs_fit() {
    let mut page = sample_page::page();
    let run = &mut page.runs[0];
    let classes = 40;
    let evaluation = run.evaluation.as_mut().unwrap();
    evaluation.classes = (0..classes).map(|i| format!("a class with a long name {i}")).collect();
    evaluation.confusion =
        (0..classes).map(|t| (0..classes).map(|p| if t == p { 8 } else { (t * p) % 2 }).collect()).collect();
    let last = run.epochs[11];
    run.epochs = (1..=1000).map(|epoch| ft::train::observer::EpochMetrics { epoch, ..last }).collect();
    in_browser(&page, (360, 740), "dark", |tab| {
        assert_nothing_sticks_out(tab);
        let scrolls = tab.evaluate("(() => { const s = document.querySelector('.matrix').parentElement; return s.scrollWidth > s.clientWidth; })()");
        assert_eq!(scrolls, json!(true));
    });
}

#[test]
fn the_file_is_small_needs_nothing_and_forbids_requests() {
    let text = html::render(&sample_page::page()).unwrap();
    assert!(text.len() < 5_000_000, "{} bytes", text.len());
    assert!(text.contains("default-src 'none'; img-src data:;"));
    for (what, marker) in
        [("placeholder", "{{"), ("script", "<script src"), ("style sheet", "<link"), ("address", "href=\"http")]
    {
        assert!(!text.contains(marker), "the page has a {what}: {marker}");
    }
    let hostile = html::render(&with_hostile_names()).unwrap();
    assert_eq!(hostile.matches("</script>").count(), text.matches("</script>").count());
    let json = hostile.split_once("id=\"data\">").unwrap().1.split_once("</script>").unwrap().0;
    let data: Value = serde_json::from_str(json).unwrap();
    assert_eq!(data["runs"][0]["warnings"][0], json!(HOSTILE));
}

#[test]
fn pictures_are_of_the_wrong_the_worst_and_some_right_photos_within_a_bound() {
    let page = sample_page::page();
    let evaluation = page.runs[0].evaluation.as_ref().unwrap();
    let chosen = chosen_for_thumbnails(evaluation);
    let is_wrong = |&i: &usize| evaluation.predictions[i].truth != evaluation.predictions[i].predicted;
    let wrong: Vec<usize> = (0..evaluation.photos).filter(is_wrong).collect();
    assert!(wrong.iter().all(|i| chosen.contains(i)), "a wrong photo has no picture");
    assert!(evaluation.highest_loss.iter().all(|i| chosen.contains(i)));
    for class in 0..evaluation.classes.len() {
        let right = chosen.iter().filter(|i| !is_wrong(i) && evaluation.predictions[**i].truth == class).count();
        assert!((RIGHT_PER_CLASS..RIGHT_PER_CLASS + 3).contains(&right), "{right} right photos of class {class}");
    }

    // Ten times the photos: the bound holds, and the right ones keep their room.
    let mut large = evaluation.clone();
    large.predictions = (0..10).flat_map(|_| evaluation.predictions.clone()).collect();
    let chosen = chosen_for_thumbnails(&large);
    let mut unique = chosen.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), chosen.len());
    assert!(chosen.len() <= THUMBNAILS && chosen.len() > THUMBNAILS - 20, "{}", chosen.len());
    let right = chosen.iter().filter(|&&i| large.predictions[i].truth == large.predictions[i].predicted).count();
    assert!(right >= 5 * RIGHT_PER_CLASS, "{right} right photos");
}

/// With `FT_PAGES=DIR` the sample pages and their screenshots stay in that folder, for a look at them.
#[test]
fn sample_pages_are_drawn_and_can_be_kept() {
    use base64::Engine;
    let folder = tempfile::tempdir().unwrap();
    let folder = std::env::var_os("FT_PAGES").map_or_else(|| folder.path().to_owned(), PathBuf::from);
    let write = |name: &str, page: &Page| {
        let path = Path::new(&folder).join(name);
        html::write(&path, page).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), html::render(page).unwrap());
        file_in_browser(&path, DESKTOP, "light", |tab| {
            let picture = base64::engine::general_purpose::STANDARD.decode(tab.screenshot()).unwrap();
            fs::write(path.with_extension("png"), &picture).unwrap();
            let picture = image::load_from_memory(&picture).unwrap().into_rgb8();
            assert!(picture.width() == DESKTOP.0 && picture.height() > DESKTOP.1, "{:?}", picture.dimensions());
            let colours: std::collections::BTreeSet<_> = picture.pixels().step_by(7).map(|p| p.0).collect();
            assert!(colours.len() > 200, "{} colours: the page is blank", colours.len());
        });
    };
    write("page.html", &sample_page::page());
    write("comparison.html", &sample_page::comparison());
    write("hostile.html", &with_hostile_names());
}
