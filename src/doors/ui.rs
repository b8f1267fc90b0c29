//! Serves the built web UI, which is part of the binary.

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use include_dir::{Dir, File, include_dir};

use super::{Doors, check_host, problem_response};

/// `static/dist` as it was when the binary was built; empty if the UI was not built before.
static UI: Dir<'_> = include_dir!("$OUT_DIR/ui");

/// What the page may do: its own scripts and styles, its own sockets, nothing from anywhere else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self'; font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types dompurify";

const NOT_BUILT: &str = "\
The web UI is not part of this binary.

To have it, build it before the server:

    make run

or, by hand:

    cd static && npm ci && npm run build && cd .. && cargo build --release

The API works without it: /ws/frontend-api, /ws/backend-api, /health, /ready.
";

pub async fn serve(request: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    if let Err(problem) = check_host(&request, &doors) {
        return problem_response(&problem);
    }
    find(&UI, request.path())
}

fn find(ui: &'static Dir<'static>, path: &str) -> HttpResponse {
    let path = path.trim_start_matches('/');
    let (name, otherwise) = if path.is_empty() { ("index.html", NOT_BUILT) } else { (path, "not found\n") };
    match ui.get_file(name) {
        Some(file) => respond(file),
        None => HttpResponse::NotFound().content_type("text/plain; charset=utf-8").body(otherwise),
    }
}

fn respond(file: &'static File<'static>) -> HttpResponse {
    let path = file.path().to_string_lossy();
    // Names under assets/ carry a hash of their content; the page names the ones that belong to it.
    let cache_control =
        if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut response = HttpResponse::Ok();
    response
        .content_type(content_type(&path))
        .insert_header((header::CACHE_CONTROL, cache_control))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY));
    // To a HEAD request the dispatcher sends the head alone.
    response.body(file.contents())
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "woff2" => "font/woff2",
        "json" | "webmanifest" => "application/json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{body::to_bytes, http::StatusCode};
    use include_dir::DirEntry;

    use super::*;

    async fn answer(ui: &'static Dir<'static>, path: &str) -> (StatusCode, String, String) {
        let response = find(ui, path);
        let status = response.status();
        let caching = response.headers().get(header::CACHE_CONTROL).map(|value| value.to_str().unwrap());
        let caching = caching.unwrap_or_default().to_owned();
        let body = to_bytes(response.into_body()).await.unwrap();
        (status, caching, String::from_utf8(body.to_vec()).unwrap())
    }

    #[actix::test]
    async fn without_the_ui_the_page_says_how_to_build_it() {
        static EMPTY: Dir<'_> = Dir::new("", &[]);

        let (status, _, body) = answer(&EMPTY, "/").await;

        assert_eq!(status, StatusCode::NOT_FOUND);
        assert!(body.contains("make run") && body.contains("npm run build"), "{body}");
        assert_eq!(answer(&EMPTY, "/index.html").await.0, StatusCode::NOT_FOUND);
    }

    #[actix::test]
    async fn files_whose_name_is_of_their_content_are_kept_and_the_page_is_asked_for_again() {
        static FILES: [DirEntry<'_>; 2] = [
            DirEntry::File(File::new("index.html", b"<!doctype html>")),
            DirEntry::Dir(Dir::new("assets", &[DirEntry::File(File::new("assets/a-1.js", b"1"))])),
        ];
        static UI: Dir<'_> = Dir::new("", &FILES);

        let (status, caching, body) = answer(&UI, "/").await;
        assert_eq!(
            (status, caching.as_str(), body.as_str()),
            (StatusCode::OK, "no-cache", "<!doctype html>")
        );
        let (status, caching, _) = answer(&UI, "/assets/a-1.js").await;
        assert_eq!((status, caching.as_str()), (StatusCode::OK, "public, max-age=31536000, immutable"));
        assert_eq!(answer(&UI, "/../Cargo.toml").await.0, StatusCode::NOT_FOUND);
    }
}
