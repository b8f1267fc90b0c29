//! Whether the process lives, and whether it takes work.

use std::sync::atomic::Ordering;

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use super::{Doors, check_host, problem_response};
use crate::core::bus::GetFigures;

/// The process runs and answers.
pub async fn live(request: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    if let Err(problem) = check_host(&request, &doors) {
        return problem_response(&problem);
    }
    HttpResponse::Ok().json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

/// New connections and commands are welcome.
pub async fn ready(request: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    if let Err(problem) = check_host(&request, &doors) {
        return problem_response(&problem);
    }
    if doors.draining.load(Ordering::Relaxed) {
        return HttpResponse::ServiceUnavailable().json(json!({ "status": "draining" }));
    }
    // The core answers, so it runs.
    let agents = doors.manager.count_live().await;
    let Ok(bus) = doors.bus.ask(GetFigures).await else {
        return HttpResponse::ServiceUnavailable().json(json!({ "status": "ending" }));
    };
    HttpResponse::Ok().json(json!({
        "status": "ready",
        "connections": doors.register.count(),
        "agents_in_memory": agents,
        "topics_in_memory": bus.topics,
        "subscriptions": bus.subscriptions,
    }))
}
