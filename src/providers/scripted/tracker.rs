//! A fight, kept in the document that a session shares: what the demo model says and does about it.
//!
//! It reads the document from its prompt and patches it by the tool `update_state`, as any model would.

use serde_json::{Value, json};

use super::Act;
use crate::core::ports::ModelRequest;

/// The document as the prompt has it, if it is a fight's.
fn fight(request: &ModelRequest) -> Option<Value> {
    let state = request.prompt.system().lines().last()?;
    let state: Value = serde_json::from_str(state).ok()?;
    state["combatants"].is_array().then_some(state)
}

fn has_tool(request: &ModelRequest, name: &str) -> bool {
    request.tools.iter().any(|tool| tool.name == name)
}

/// What a message about a fight sets going; `None` if it is about something else.
pub(super) fn act(message: &str, request: &ModelRequest) -> Option<Result<Vec<Act>, String>> {
    let (command, rest) = message.split_once(char::is_whitespace).unwrap_or((message, ""));
    let rest = rest.trim();
    if !matches!(command, "/fight" | "/hit" | "/heal" | "/condition" | "/next") {
        return None;
    }
    let Some(state) = fight(request).filter(|_| has_tool(request, "update_state")) else {
        return Some(Err("I keep no fight here: open a chat with the agent that does.".to_owned()));
    };
    let patch = match command {
        "/fight" => Ok(example()),
        "/hit" | "/heal" => hit(&state, rest, command == "/hit"),
        "/condition" => condition(&state, rest),
        _ => next(&state),
    };
    Some(patch.map(|patch| {
        let mut acts = vec![Act { name: "update_state".to_owned(), args: json!({ "patch": patch }) }];
        if has_tool(request, "suggest") {
            let items = ["/next", "/hit Goblin 3", "/heal Mira 4", "/condition Goblin prone"];
            acts.push(Act { name: "suggest".to_owned(), args: json!({ "items": items }) });
        }
        acts
    }))
}

/// What there is to say once the document has changed.
pub(super) fn summary(request: &ModelRequest) -> Option<String> {
    let state = fight(request)?;
    let combatants = state["combatants"].as_array()?;
    let turn = state["turn"].as_u64().and_then(|turn| usize::try_from(turn).ok()).unwrap_or(0);
    let mut text = format!("**Round {}**\n\n", state["round"]);
    for (at, combatant) in combatants.iter().enumerate() {
        let turn = if at == turn { " ◀" } else { "" };
        let conditions: Vec<_> =
            combatant["conditions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let conditions =
            if conditions.is_empty() { String::new() } else { format!(", {}", conditions.join(", ")) };
        let name = combatant["name"].as_str().unwrap_or("?");
        text.push_str(&format!(
            "- {name}: {} of {} hit points{conditions}{turn}\n",
            combatant["hp"], combatant["max_hp"]
        ));
    }
    Some(text)
}

fn example() -> Value {
    let combatant = |name: &str, initiative: u32, hp: u32| json!({ "name": name, "initiative": initiative, "hp": hp, "max_hp": hp, "conditions": [] });
    json!([{
        "op": "replace",
        "path": "",
        "value": {
            "round": 1,
            "turn": 0,
            "combatants": [combatant("Mira", 18, 24), combatant("Goblin", 14, 7), combatant("Ogre", 6, 59)],
        },
    }])
}

/// The combatant that the text begins with, and the rest of it.
fn named<'a>(state: &'a Value, text: &'a str) -> Result<(usize, &'a Value, &'a str), String> {
    let combatants = state["combatants"].as_array().map_or(&[][..], Vec::as_slice);
    let found = combatants.iter().enumerate().find_map(|(at, combatant)| {
        let name = combatant["name"].as_str()?;
        let (start, rest) = text.split_at_checked(name.len())?;
        (start.eq_ignore_ascii_case(name)).then(|| (at, combatant, rest.trim()))
    });
    found.ok_or_else(|| {
        let names: Vec<_> = combatants.iter().filter_map(|combatant| combatant["name"].as_str()).collect();
        if names.is_empty() {
            "Nobody fights yet: `/fight` begins an example.".to_owned()
        } else {
            format!("Nobody of that name fights; there are {}.", names.join(", "))
        }
    })
}

fn hit(state: &Value, rest: &str, hurts: bool) -> Result<Value, String> {
    let (at, combatant, amount) = named(state, rest)?;
    let amount: i64 =
        amount.parse().map_err(|_| "How many hit points? For example `/hit Goblin 3`.".to_owned())?;
    let (hp, max_hp) =
        (combatant["hp"].as_i64().unwrap_or(0), combatant["max_hp"].as_i64().unwrap_or(i64::MAX));
    let amount = if hurts { amount.saturating_neg() } else { amount };
    let hp = hp.saturating_add(amount).clamp(0, max_hp.max(0));
    Ok(json!([{ "op": "replace", "path": format!("/combatants/{at}/hp"), "value": hp }]))
}

/// Gives somebody a condition, or takes it away.
fn condition(state: &Value, rest: &str) -> Result<Value, String> {
    let (at, combatant, condition) = named(state, rest)?;
    if condition.is_empty() {
        return Err("Which condition? For example `/condition Goblin prone`.".to_owned());
    }
    let conditions = combatant["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    Ok(match conditions.iter().position(|other| other == condition) {
        Some(place) => json!([{ "op": "remove", "path": format!("/combatants/{at}/conditions/{place}") }]),
        None => {
            json!([{ "op": "add", "path": format!("/combatants/{at}/conditions/-"), "value": condition }])
        }
    })
}

fn next(state: &Value) -> Result<Value, String> {
    let fighting = state["combatants"].as_array().map_or(0, Vec::len) as u64;
    if fighting == 0 {
        return Err("Nobody fights yet: `/fight` begins an example.".to_owned());
    }
    let turn = (state["turn"].as_u64().unwrap_or(0) + 1) % fighting;
    let round = state["round"].as_u64().unwrap_or(1) + u64::from(turn == 0);
    Ok(json!([
        { "op": "replace", "path": "/turn", "value": turn },
        { "op": "replace", "path": "/round", "value": round },
    ]))
}
