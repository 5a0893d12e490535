//! The report page in a browser.

mod browser;
mod common;
mod sample_page;

use std::path::PathBuf;

use ft::report::page::html;

#[test]
fn writes_the_sample_pages() {
    let Some(folder) = std::env::var_os("FT_PAGES").map(PathBuf::from) else { return };
    html::write(&folder.join("page.html"), &sample_page::page()).unwrap();
    html::write(&folder.join("comparison.html"), &sample_page::comparison()).unwrap();
    let mut failed = sample_page::page();
    failed.runs = vec![sample_page::failed_run()];
    html::write(&folder.join("failed.html"), &failed).unwrap();
}
