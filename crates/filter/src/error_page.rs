//! Which page stands for an error.

use narthex_config::model::ErrorPage;

/// The page for an error of our own: the first, in written order, that names the status.
pub fn find(pages: &[ErrorPage], status: u16) -> Option<&ErrorPage> {
    pages.iter().find(|page| names(page, status))
}

/// The page instead of the origin's own body with this status: the first that names it and intercepts.
pub fn find_intercept(pages: &[ErrorPage], status: u16) -> Option<&ErrorPage> {
    pages
        .iter()
        .find(|page| page.intercept && names(page, status))
}

fn names(page: &ErrorPage, status: u16) -> bool {
    page.statuses
        .iter()
        .any(|(low, high)| (*low..=*high).contains(&status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::sync::Arc;

    fn page(statuses: &[(u16, u16)], name: &str, intercept: bool) -> ErrorPage {
        ErrorPage {
            statuses: statuses.to_vec(),
            body: Arc::new(name.as_bytes().to_vec()),
            content_type: "text/html".into(),
            file: PathBuf::from(name),
            intercept,
        }
    }

    fn name(page: Option<&ErrorPage>) -> &str {
        page.map_or("", |p| p.file.to_str().unwrap())
    }

    #[test]
    fn the_first_that_names_the_status() {
        let pages = [
            page(&[(404, 404), (410, 410)], "gone", false),
            page(&[(400, 499)], "client", true),
            page(&[(500, 599)], "server", false),
            page(&[(502, 504)], "late", true),
        ];
        for (status, want) in [
            (404, "gone"),
            (410, "gone"),
            (400, "client"),
            (499, "client"),
            (500, "server"),
            (502, "server"),
            (599, "server"),
            (399, ""),
            (600, ""),
            (200, ""),
        ] {
            assert_eq!(name(find(&pages, status)), want, "{status}");
        }
        assert_eq!(name(find_intercept(&pages, 404)), "client");
        assert_eq!(name(find_intercept(&pages, 503)), "late");
        assert_eq!(name(find_intercept(&pages, 500)), "");
        assert!(find(&[], 500).is_none());
    }
}
