//! The page of an origin.

use super::server::Request;

/// What the origin shows: who it is, and what reached it.
pub fn origin(name: &str, color: &str, request: &Request, served: u64) -> String {
    let rows: String = request
        .headers
        .iter()
        .map(|(name, value)| {
            [
                "<tr><th>",
                &escape(name),
                "</th><td>",
                &escape(value),
                "</td></tr>",
            ]
            .concat()
        })
        .collect();
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{name}</title>\
         <style>body{{margin:0;font:16px/1.5 system-ui,sans-serif}}header{{background:{color};padding:3rem 2rem}}\
         h1{{margin:0;font-size:3rem}}main{{padding:1rem 2rem}}th{{text-align:left;padding-right:2rem}}\
         code{{background:#8882;padding:.1em .3em}}</style>\
         <header><h1>{name}</h1>answers for the {served}. time</header>\
         <main><p>Refresh: the next request goes to another origin. Kill one and watch: \
         <code>curl -X POST http://{host}/demo/kill/2</code></p>\
         <h2>{method} {path}</h2><table>{rows}</table></main></html>\n",
        host = escape(host(request)),
        method = escape(&request.method),
        path = escape(&request.path),
    )
}

fn host(request: &Request) -> &str {
    let host = request
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("host"));
    host.map_or("127.0.0.1:8080", |(_, value)| value)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_sends_is_text() {
        let request = Request {
            method: "GET".to_owned(),
            path: "/<script>".to_owned(),
            headers: vec![("X-A".to_owned(), "\"><img>".to_owned())],
        };
        let page = origin("Jade", "green", &request, 1);
        assert!(
            !page.contains("<script>") && !page.contains("<img>"),
            "{page}"
        );
        assert!(page.contains("&lt;script&gt;"), "{page}");
    }
}
