//! Serves the built web UI, which is part of the binary.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, header},
    web,
};
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
    let path = request.path().trim_start_matches('/');
    if path.is_empty() {
        return match UI.get_file("index.html") {
            Some(page) => respond(&request, page),
            None => HttpResponse::NotFound().content_type("text/plain; charset=utf-8").body(NOT_BUILT),
        };
    }
    match UI.get_file(path) {
        Some(file) => respond(&request, file),
        None => HttpResponse::NotFound().content_type("text/plain; charset=utf-8").body("not found\n"),
    }
}

fn respond(request: &HttpRequest, file: &'static File<'static>) -> HttpResponse {
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
    if request.method() == Method::HEAD {
        return response.finish();
    }
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
