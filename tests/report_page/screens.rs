//! The page on phones, in windows that change, in both schemes of colours, and on paper.

use super::*;

#[test]
fn the_matrix_of_five_classes_fits_on_a_phone() {
    in_browser(&sample_page::page(), (390, 844), "light", |tab| {
        let hidden = tab.evaluate(
            "(() => { const box = document.querySelector('.matrix').closest('.scroll'); return box.scrollWidth - box.clientWidth; })()",
        );
        assert_eq!(hidden, json!(0), "pixels of the matrix to scroll to");
    });
}

#[test]
fn nothing_sticks_out_on_a_phone() {
    for page in [sample_page::page(), sample_page::comparison(), with_hostile_names()] {
        in_browser(&page, (360, 740), "light", assert_nothing_sticks_out);
    }
}

#[test]
fn a_window_that_changes_its_size_draws_the_curves_anew() {
    in_browser(&sample_page::page(), DESKTOP, "light", |tab| {
        let width = "Number(document.querySelector('.plot svg').getAttribute('viewBox').split(' ')[2])";
        let before = tab.evaluate(width).as_f64().unwrap();
        tab.resize(360, 740);
        tab.settle();
        let after = tab.evaluate(width).as_f64().unwrap();
        assert!(after < 360.0 && after != before, "{before} {after}");
        assert_nothing_sticks_out(tab);
    });
}

/// Relative luminance contrast of all text with what lies behind it, as WCAG 2.1 defines it; text that has too little.
const CONTRAST: &str = r"(() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgb = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const luminance = ([r, g, b]) => { const [x, y, z] = [r, g, b].map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * x + 0.7152 * y + 0.0722 * z; };
  const behind = (e) => { for (let n = e; n; n = n.parentElement) { const c = rgb(getComputedStyle(n).backgroundColor); if (c[3] === 255) return c; } return [255, 255, 255]; };
  const faint = new Set();
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.closest('.hidden, noscript, script, .skip, [hidden]') || e.getBoundingClientRect().width === 0) continue;
    const style = getComputedStyle(e);
    const text = luminance(rgb(e instanceof SVGElement ? style.fill : style.color));
    const ground = luminance(behind(e instanceof SVGElement ? e.closest('svg').parentElement : e));
    const contrast = (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
    if (contrast < 4.5) faint.add(`${e.tagName} ${e.getAttribute('class')} '${e.textContent.slice(0, 30)}' ${contrast.toFixed(2)}`);
  }
  return [...faint];
})()";

#[test]
fn both_schemes_of_colours_can_be_read() {
    let background = "getComputedStyle(document.body).backgroundColor";
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        in_browser(&sample_page::page(), DESKTOP, scheme, |tab| {
            grounds.push(tab.text(background));
            assert_eq!(tab.evaluate(CONTRAST), json!([]), "too little contrast in {scheme}");
            // The button changes to the other scheme and back.
            tab.click(".theme");
            assert_ne!(tab.text(background), grounds[grounds.len() - 1]);
            assert_eq!(tab.evaluate(CONTRAST), json!([]), "too little contrast after the button, in {scheme}");
            tab.click(".theme");
            assert_eq!(tab.text(background), grounds[grounds.len() - 1]);
        });
    }
    if let [light, dark] = grounds.as_slice() {
        assert_ne!(light, dark);
    }
}

#[test]
fn a_page_prints_light_without_controls_and_with_all_runs() {
    in_browser(&sample_page::comparison(), DESKTOP, "dark", |tab| {
        let pdf = tab.print();
        // "%PDF" in base64.
        assert!(pdf.starts_with("JVBER") && pdf.len() > 50_000, "{} characters", pdf.len());
        tab.call(
            "Emulation.setEmulatedMedia",
            json!({ "media": "print", "features": [{ "name": "prefers-color-scheme", "value": "dark" }] }),
        );
        tab.settle();
        assert_eq!(tab.text("getComputedStyle(document.body).backgroundColor"), "rgb(255, 255, 255)");
        let shown = "(selector) => [...document.querySelectorAll(selector)].filter((e) => e.getBoundingClientRect().height > 0).length";
        for control in [".theme", ".tabs", ".copy", ".contents", ".choice"] {
            assert_eq!(tab.evaluate(&format!("({shown})('{control}')")), json!(0), "{control} is printed");
        }
        assert_eq!(tab.evaluate(&format!("({shown})('[role=tabpanel]')")), json!(3));
    });
}
