//! The OpenAPI document: what poem-openapi derives, completed by what it cannot say, and the two pages that show it.

use std::sync::Arc;

use poem::endpoint::make_sync;
use poem::web::Html;
use poem::{IntoResponse, Route, get};
use poem_openapi::{LicenseObject, OpenApi, OpenApiService};
use serde_json::{Map, Value, json};

use crate::auth::guarded;
use crate::filter;
use crate::upload;

/// Redoc's page asks a font server; the system's fonts do as well, and work without a network.
const FONTS: &str = "fonts.googleapis.com";

/// Whether the API asks for keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeysAre {
    /// Every request under `/v1` needs one.
    Needed,
    /// There are none: development.
    Ignored,
}

/// The service of these operations, and its completed description.
pub(crate) fn service<T: OpenApi + Clone>(operations: T, keys: KeysAre) -> (OpenApiService<T, ()>, Arc<str>) {
    let license = LicenseObject::new("MIT OR Apache-2.0").url("https://spdx.org/licenses/MIT.html");
    let service = OpenApiService::new(operations, "Petiole", env!("CARGO_PKG_VERSION"))
        .description(
            "An HTTP request becomes a Celery task, a worker does it, and its outcome is read here. Errors are problem \
             documents (RFC 9457). Outside development a key is needed: `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
        )
        .license(license)
        .server("/");
    let derived = service.spec();
    let completed = match serde_json::from_str(&derived) {
        Ok(document) => complete(document, keys).to_string(),
        Err(_) => derived,
    };
    (service, completed.into())
}

/// Routes for `/openapi.json`, `/docs`, `/redoc`.
pub(crate) fn pages<T: OpenApi + Clone>(service: &OpenApiService<T, ()>, completed: &Arc<str>) -> Route {
    let json = completed.clone();
    let derived = service.spec();
    let page = |html: String| {
        let html: Vec<&str> = html.split_inclusive('\n').filter(|line| !line.contains(FONTS)).collect();
        let html: Arc<str> = html.concat().replace(&derived, completed).into();
        get(make_sync(move |_| Html(html.to_string())))
    };
    Route::new()
        .at("/openapi.json", get(make_sync(move |_| json.to_string().with_content_type("application/json"))))
        .at("/docs", page(service.swagger_ui_html()))
        .at("/redoc", page(service.redoc_html()))
}

/// Adds what poem-openapi has no words for: the two ways to give a key, which fields may be null, and that unknown fields
/// are refused.
fn complete(mut document: Value, keys: KeysAre) -> Value {
    document["openapi"] = json!("3.0.3");
    document["components"]["securitySchemes"] = json!({
        "bearer": {"type": "http", "scheme": "bearer", "description": "A key of `API_KEYS`. Not needed in development."},
        "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same keys, in a header of their own."},
    });
    let choices = choices(&document);
    if let Some(paths) = document["paths"].as_object_mut() {
        for (path, item) in paths.iter_mut() {
            for (method, operation) in item.as_object_mut().into_iter().flatten() {
                complete_operation(path, method, operation, keys);
                let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
                parameters.into_iter().flatten().for_each(|parameter| write_out(parameter, &choices));
            }
        }
    }
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        let objects: Vec<String> = schemas
            .iter()
            .filter(|(_, schema)| schema["type"] == "object" && schema["oneOf"].is_null())
            .map(|(name, _)| format!("#/components/schemas/{name}"))
            .collect();
        for (name, schema) in schemas.iter_mut() {
            complete_schema(name, schema, &choices);
            readable_for_generators(schema, &objects);
        }
    }
    without_unused(document)
}

/// The schemas that are choices between words, by their names.
fn choices(document: &Value) -> Map<String, Value> {
    let schemas = document["components"]["schemas"].as_object().into_iter().flatten();
    schemas
        .filter(|(_, schema)| !schema["enum"].is_null())
        .map(|(name, schema)| (name.clone(), schema.clone()))
        .collect()
}

/// A choice with a default is written out where it is a parameter: generators refuse a reference beside anything else.
fn write_out(parameter: &mut Value, choices: &Map<String, Value>) {
    let schema = &mut parameter["schema"];
    let name = schema["allOf"][0]["$ref"].as_str().and_then(|path| path.rsplit('/').next());
    if let Some(choice) = name.and_then(|name| choices.get(name)) {
        let default = schema["default"].take();
        *schema = choice.clone();
        schema["default"] = default;
    }
}

/// Without the schemas that nothing refers to any more, now that choices are written out.
fn without_unused(mut document: Value) -> Value {
    let text = document.to_string();
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        schemas.retain(|name, _| text.contains(&format!("\"#/components/schemas/{name}\"")));
    }
    document
}

/// What generators of clients stumble over is said in another way: an empty object as a default, and descriptions beside
/// references to what is no object.
fn readable_for_generators(schema: &mut Value, objects: &[String]) {
    match schema {
        Value::Object(map) => {
            if map.get("default").is_some_and(|default| default == &json!({})) {
                map.remove("default");
            }
            let reference = map.get("allOf").and_then(|all| all[0]["$ref"].as_str()).map(str::to_owned);
            if let Some(reference) = reference.filter(|reference| !objects.contains(reference)) {
                map.clear();
                map.insert("$ref".into(), reference.into());
            }
            map.values_mut().for_each(|inner| readable_for_generators(inner, objects));
        }
        Value::Array(items) => items.iter_mut().for_each(|inner| readable_for_generators(inner, objects)),
        _ => {}
    }
}

fn complete_operation(path: &str, method: &str, operation: &mut Value, keys: KeysAre) {
    operation["security"] = match (guarded(path), keys) {
        (false, _) => json!([]),
        (true, KeysAre::Needed) => json!([{"bearer": []}, {"api_key": []}]),
        (true, KeysAre::Ignored) => json!([{}, {"bearer": []}, {"api_key": []}]),
    };
    if operation["description"].is_null() {
        operation["description"] = operation["summary"].clone();
    }
    if let Some(form) = operation.pointer_mut("/requestBody/content/multipart~1form-data") {
        form["schema"]["additionalProperties"] = json!(false);
        form["encoding"] = json!({
            "file": {"contentType": upload::TAKEN.join(", ")}, "metadata": {"contentType": "application/json"},
        });
    }
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    if guarded(path) {
        let problem = responses.get("401").map(|refused| refused["content"].clone());
        let seconds = json!({"description": "Seconds to wait before the next try.", "required": true, "schema": {"type": "integer"}});
        responses.insert(
            "429".into(),
            json!({
                "description": "The key's requests of this minute or day are used up.",
                "content": problem, "headers": {"Retry-After": seconds},
            }),
        );
    }
    let tagged = method == "get"
        && responses.get("200").is_some_and(|ok| !ok["content"]["application/json; charset=utf-8"].is_null());
    if tagged {
        responses["200"]["headers"]["ETag"] =
            json!({"description": "Names this answer.", "schema": {"type": "string"}});
        responses.insert(
            "304".into(),
            json!({
                "description": "The answer is still the one that `If-None-Match` names.",
                "headers": {"ETag": {"description": "Names the answer.", "schema": {"type": "string"}}},
            }),
        );
    }
    for response in responses.values_mut() {
        let id = json!({
            "description": "The request's id: the one that came, or a new one.",
            "required": true, "schema": {"type": "string"},
        });
        response["headers"]["X-Request-Id"] = id;
        if let Some(stream) = response.pointer_mut("/content/text~1event-stream") {
            // what the schema of a stream describes is each of its events
            let data = stream["schema"]["items"].take();
            stream["schema"] = json!({
                "type": "object", "description": "One event of the stream.", "required": ["event", "data"],
                "properties": {
                    "event": {"type": "string", "description": "Its kind."},
                    "data": {"type": "string", "description": "A JSON text: what `x-data` describes, or a report.", "x-data": data},
                },
            });
        }
        if response["description"].as_str().is_none_or(str::is_empty) {
            response["description"] = json!("Done.");
        }
    }
    if tagged {
        let known = json!({
            "name": "If-None-Match", "in": "header", "required": false, "schema": {"type": "string"},
            "description": "The `ETag` of an answer that you have: if it still holds, the answer is 304 and has no body.",
        });
        match operation["parameters"].as_array_mut() {
            Some(parameters) => parameters.push(known),
            None => operation["parameters"] = json!([known]),
        }
    }
}

fn complete_schema(name: &str, schema: &mut Value, enums: &Map<String, Value>) {
    if [filter::NAME, filter::OPERATORS].contains(&name) {
        // operators that are not given are left out, and null is a value
        if name == filter::OPERATORS {
            schema["additionalProperties"] = json!(false);
        }
        return;
    }
    let required: Vec<_> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (property, of) in properties.iter_mut() {
        if !required.contains(property) {
            let whole = std::mem::take(of);
            *of = nullable(whole, enums);
        }
    }
    // null is shown, never left out
    if name.ends_with("Request") || name.ends_with("Step") {
        schema["additionalProperties"] = json!(false);
    }
    if name.ends_with("Request") && ["crontab", "interval"].iter().all(|name| schema["properties"].get(name).is_some())
    {
        times_of_schedule(name, schema, required.iter().any(|name| name == "name"));
    }
    if ["eta", "countdown"].iter().all(|name| schema["properties"].get(name).is_some()) {
        schema["not"] = json!({
            "type": "object", "required": ["eta", "countdown"],
            "properties": {"eta": {"type": "string"}, "countdown": {"type": "number"}},
        });
    }
}

/// A schedule has a crontab or an interval; what belongs to one does not go with the other. A change may leave both as they
/// are.
fn times_of_schedule(name: &str, schema: &mut Value, whole: bool) {
    // null and nothing else: no text and no number is like this, and generators of clients read it
    let none = |kind: &str| match kind {
        "number" => json!({"type": kind, "nullable": true, "minimum": 1, "maximum": 0}),
        _ => json!({"type": kind, "nullable": true, "minLength": 1, "maxLength": 0}),
    };
    let not_relative = json!({"type": "boolean", "nullable": true, "not": {"enum": [true]}});
    let titled = |way: &str| format!("{name} {way}");
    let mut ways = vec![
        json!({
            "type": "object", "title": titled("by a crontab"), "required": ["crontab"],
            "properties": {"crontab": {"type": "string"}, "interval": none("number"), "relative": not_relative},
        }),
        json!({
            "type": "object", "title": titled("at an interval"), "required": ["interval"],
            "properties": {"interval": {"type": "number"}, "crontab": none("string"), "timezone": none("string")},
        }),
    ];
    if !whole {
        ways.push(json!({
            "type": "object", "title": titled("as before"),
            "properties": {"crontab": none("string"), "interval": none("number")},
        }));
    }
    schema["oneOf"] = ways.into();
}

/// The schema with null among its values.
fn nullable(mut schema: Value, enums: &Map<String, Value>) -> Value {
    let nothing = json!({"type": "object", "nullable": true, "enum": [null]});
    let reference = schema["allOf"][0].get("$ref").or(schema.get("$ref")).cloned();
    if let Some(reference) = reference {
        let name = reference.as_str().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        // a choice is written out, so that null can be one of its values
        let mut written = match enums.get(name) {
            Some(choice) => nullable(choice.clone(), enums),
            None => json!({"anyOf": [{"$ref": reference}, nothing]}),
        };
        for word in ["description", "default"] {
            if let Some(said) = schema.get(word).or(schema["allOf"][1].get(word)) {
                written[word] = said.clone();
            }
        }
        return written;
    }
    if let Some(Value::Array(alternatives)) = schema.get_mut("oneOf") {
        alternatives.push(nothing);
        return schema;
    }
    if let Some(map) = schema.as_object_mut()
        && map.contains_key("type")
    {
        map.insert("nullable".into(), json!(true));
        if let Some(values) = map.get_mut("enum").and_then(Value::as_array_mut) {
            values.push(Value::Null);
        }
    }
    schema
}

/// Which methods each path takes, for the header `Allow`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Methods(Arc<Vec<RouteMethods>>);

impl Methods {
    /// By the description, and the pages that are not in it.
    pub(crate) fn new(completed: &str) -> Self {
        let document: Value = serde_json::from_str(completed).unwrap_or_default();
        let described = document["paths"].as_object().into_iter().flatten().map(|(path, item)| {
            let mut methods: Vec<_> =
                item.as_object().into_iter().flat_map(Map::keys).map(|method| method.to_uppercase()).collect();
            if methods.iter().any(|method| method == "GET") {
                methods.push("HEAD".into());
            }
            RouteMethods { template: path.clone(), methods: methods.join(", ") }
        });
        let pages = ["/openapi.json", "/docs", "/redoc"]
            .map(|path| RouteMethods { template: path.into(), methods: "GET, HEAD".into() });
        Self(Arc::new(described.chain(pages).collect()))
    }

    /// The route of the description that `path` belongs to.
    pub(crate) fn route(&self, path: &str) -> Option<&str> {
        self.find(path).map(|route| route.template.as_str())
    }

    /// The methods that `path` takes.
    pub(crate) fn of(&self, path: &str) -> String {
        self.find(path).map_or_else(|| "GET".into(), |route| route.methods.clone())
    }

    fn find(&self, path: &str) -> Option<&RouteMethods> {
        let fits = |route: &&RouteMethods| {
            let (template, given) = (route.template.split('/'), path.split('/'));
            template.clone().count() == given.clone().count()
                && template.zip(given).all(|(part, given)| part == given || part.starts_with('{'))
        };
        self.0.iter().find(fits)
    }
}

#[derive(Debug)]
struct RouteMethods {
    template: String,
    methods: String,
}
