//! What all of this is, for programs: OpenAPI 3.1, made of the routes by which requests go, and of the types that are read
//! and written.

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, ComponentsBuilder, Content, InfoBuilder, OpenApi, OpenApiBuilder, PathsBuilder, Ref, RefOr, Required,
    Response, ResponseBuilder, Schema,
};
use utoipa::{PartialSchema, ToSchema};

use super::looking::{Connections, Explanation};
use super::problem::{PROBLEM_JSON, ProblemDocument};
use super::publishing::Told;
use super::pushing::{Batch, BatchTold, Push};
use super::route::Route;
use crate::outbound::pushes::push::{CONNECTION, SUBJECT};
use crate::outbound::pushes::subjects::SUBJECTS;

const JSON: &str = "application/json";
/// The name of the only security scheme.
const BEARER: &str = "bearer";

/// A revocation, of all that was issued until now or until `issued_before`: of one of `subject`, `jti`, `sid` and `connection`; with
/// `issued_before` alone, of all identities.
#[derive(ToSchema)]
#[schema(as = Revocation)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is read by what reads revocations on the queue")]
struct Revocation {
    /// The subject, as in the claim `sub`.
    #[schema(nullable = false)]
    subject: Option<String>,
    /// The issuer of `subject`, `jti` or `sid`, as in the claim `iss`; needed if workers accept several.
    #[schema(nullable = false)]
    issuer: Option<String>,
    /// One token.
    #[schema(nullable = false)]
    jti: Option<String>,
    /// The tokens of one session.
    #[schema(nullable = false)]
    sid: Option<String>,
    /// One connection.
    #[schema(nullable = false)]
    connection: Option<String>,
    /// Seconds since 1970: what was issued later is not meant.
    #[schema(nullable = false, minimum = 0)]
    issued_before: Option<f64>,
    /// How long clients may go on, to fetch a fresh token: a duration (`30s`) or seconds.
    #[schema(nullable = false, value_type = Grace)]
    grace: Option<String>,
}

/// A duration: `30s`, or seconds; at most a day.
struct Grace;

impl PartialSchema for Grace {
    fn schema() -> RefOr<Schema> {
        let types = SchemaType::from_iter([Type::String, Type::Number]);
        ObjectBuilder::new()
            .schema_type(types)
            .description(Some("A duration (`30s`), or seconds; at most a day."))
            .build()
            .into()
    }
}

impl ToSchema for Grace {}

/// The document's text.
pub(super) fn text() -> Bytes {
    let mut document = serde_json::to_value(document()).unwrap_or_default();
    if let Some(Value::Object(push)) = document.pointer_mut("/components/schemas/Push") {
        // That one of them is needed cannot be said of a type.
        let addressees = [SUBJECT, SUBJECTS, CONNECTION].map(|name| json!({"required": [name]}));
        push.insert("anyOf".to_owned(), addressees.into_iter().collect());
    }
    document.to_string().into()
}

fn document() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Countersign")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Push to identities and connections, revoke tokens, and look at connections. Errors are problem documents \
             (RFC 9457). What a worker refuses has had no effect.",
        ))
        .build();
    let paths = Route::ALL.into_iter().fold(PathsBuilder::new(), |paths, route| {
        let method = match route.method() {
            Method::GET => HttpMethod::Get,
            _ => HttpMethod::Post,
        };
        paths.path(route.path(), PathItem::new(method, operation(route)))
    });
    OpenApiBuilder::new()
        .info(info)
        .paths(paths)
        .components(Some(components()))
        .build()
}

fn components() -> Components {
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "A key of `api-keys`, or a token of `jwt-issuer` with the scope `api-scope`.",
        ))
        .build();
    let mut schemas = vec![
        named::<Push>(),
        named::<Batch>(),
        named::<Revocation>(),
        named::<Told>(),
        named::<BatchTold>(),
        named::<Connections>(),
        named::<Explanation>(),
        named::<ProblemDocument<'static>>(),
        named::<Grace>(),
    ];
    // What these refer to.
    Push::schemas(&mut schemas);
    Batch::schemas(&mut schemas);
    BatchTold::schemas(&mut schemas);
    Told::schemas(&mut schemas);
    Connections::schemas(&mut schemas);
    Explanation::schemas(&mut schemas);
    ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .security_scheme(BEARER, SecurityScheme::Http(scheme))
        .build()
}

fn named<T: ToSchema>() -> (String, RefOr<Schema>) {
    (T::name().into_owned(), T::schema())
}

fn reference<T: ToSchema>() -> Content {
    Content::new(Some(Ref::from_schema_name(T::name())))
}

fn operation(route: Route) -> Operation {
    let (summary, description) = texts(route);
    let operation = OperationBuilder::new()
        .operation_id(Some(route.as_str()))
        .summary(Some(summary))
        .description(Some(description));
    let operation = parameters(route)
        .into_iter()
        .fold(operation, OperationBuilder::parameter);
    let body = match route {
        Route::Push => Some(reference::<Push>()),
        Route::PushBatch => Some(reference::<Batch>()),
        Route::Revoke => Some(reference::<Revocation>()),
        Route::Connections | Route::Explain | Route::Document => None,
    };
    let body = body.map(|content| {
        let body = RequestBodyBuilder::new().required(Some(Required::True));
        body.content(JSON, content).build()
    });
    let operation = operation.request_body(body);
    let operation = good(route)
        .into_iter()
        .fold(operation, |operation, (status, response)| {
            operation.response(status, response)
        });
    let operation = problems(route).into_iter().fold(operation, |operation, status| {
        operation.response(status, problem(status))
    });
    match route.right() {
        Some(_) => operation.security(SecurityRequirement::new(BEARER, std::iter::empty::<String>())),
        None => operation,
    }
    .build()
}

const fn texts(route: Route) -> (&'static str, &'static str) {
    match route {
        Route::Push => (
            "Push to an identity or a connection",
            "It is answered when the broker has the push; with `wait`, when a worker has told what became of it. \
             Repeat a request that failed with the same `message_id`: clients get it once.",
        ),
        Route::PushBatch => (
            "Push several",
            "They are sent in their order. If one is wrong, none is sent.",
        ),
        Route::Revoke => (
            "Revoke tokens before they expire",
            "It is answered with `revoked` when the revocation is in force, and with `accepted` (202) if that takes longer than `wait`: it \
             will be.",
        ),
        Route::Connections => (
            "The connections of an identity",
            "Those that are authenticated, and how many pushes are held.",
        ),
        Route::Explain => (
            "Why something happened to a connection",
            "What `countersign explain` tells: why a message was held or refused, or the socket closed.",
        ),
        Route::Document => ("This document", "It needs no key."),
    }
}

fn parameters(route: Route) -> Vec<Parameter> {
    let text = || ObjectBuilder::new().schema_type(SchemaType::new(Type::String));
    let parameter = |name: &str, place: ParameterIn, schema: ObjectBuilder, description: &str| {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(place.clone())
            .required(match place {
                ParameterIn::Path => Required::True,
                _ => Required::False,
            })
            .schema(Some(schema.build()))
            .description(Some(description))
            .build()
    };
    let wait = |seconds: u32, description: &str| {
        let schema = ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::Integer))
            .minimum(Some(0))
            .maximum(Some(30))
            .default(Some(seconds.into()));
        vec![parameter("wait", ParameterIn::Query, schema, description)]
    };
    match route {
        Route::Push | Route::PushBatch => wait(
            route.wait_s(),
            "How many seconds to wait for what becomes of it. With 0 it is not waited for.",
        ),
        Route::Revoke => wait(route.wait_s(), "How many seconds to wait until it is in force."),
        Route::Connections => vec![
            parameter(
                "subject",
                ParameterIn::Path,
                text().min_length(Some(1)),
                "The subject, as in the claim `sub`.",
            ),
            parameter(
                "issuer",
                ParameterIn::Query,
                text(),
                "The issuer, as in the claim `iss`; needed if workers accept several.",
            ),
        ],
        Route::Explain => vec![parameter(
            "id",
            ParameterIn::Path,
            text().pattern(Some("^[0-9a-fA-F]+\\.[0-9a-fA-F]+$")),
            "The connection's id.",
        )],
        Route::Document => Vec::new(),
    }
}

fn good(route: Route) -> Vec<(&'static str, Response)> {
    let of = |description: &str, content| {
        ResponseBuilder::new()
            .description(description)
            .content(JSON, content)
            .build()
    };
    match route {
        Route::Push => vec![
            ("200", of("What became of it.", reference::<Told>())),
            ("202", of("The broker has it.", reference::<Told>())),
        ],
        Route::PushBatch => vec![
            ("200", of("What became of each.", reference::<BatchTold>())),
            ("202", of("The broker has all of them.", reference::<BatchTold>())),
        ],
        Route::Revoke => vec![
            ("200", of("It is in force.", reference::<Told>())),
            (
                "202",
                of("The broker has it, and it will be in force.", reference::<Told>()),
            ),
        ],
        Route::Connections => vec![("200", of("The connections.", reference::<Connections>()))],
        Route::Explain => vec![("200", of("What was decided.", reference::<Explanation>()))],
        Route::Document => {
            let any = ObjectBuilder::new().schema_type(SchemaType::new(Type::Object)).build();
            vec![("200", of("OpenAPI 3.1.", Content::new(Some(any))))]
        }
    }
}

/// The statuses of what is not done.
fn problems(route: Route) -> Vec<&'static str> {
    let of_all: &[_] = match route.right() {
        Some(_) => &["400", "401", "403", "405", "429", "503"],
        None => &["400", "405"],
    };
    let of_body: &[_] = match route.method() {
        Method::POST => &["408", "413", "415"],
        _ => &[],
    };
    [of_all, of_body].concat()
}

fn problem(status: &str) -> Response {
    let description = match status {
        "400" => "The request is not understood.",
        "401" => "There is no key, or one that is not known or has expired.",
        "403" => "The key does not allow this.",
        "405" => "Another method is the right one.",
        "408" => "The body did not come in time.",
        "413" => "The body is too large.",
        "415" => "The body is not `application/json`.",
        "429" => "More requests a second than `api-requests-per-second`.",
        _ => "The broker or the store is away, or it is not known yet which tokens are valid.",
    };
    let header = match status {
        "401" | "403" => Some(("WWW-Authenticate", "What is wanted (RFC 6750).", Type::String)),
        "405" => Some(("Allow", "The right method.", Type::String)),
        "429" | "503" => Some(("Retry-After", "How many seconds to wait.", Type::Integer)),
        _ => None,
    };
    let response = ResponseBuilder::new()
        .description(description)
        .content(PROBLEM_JSON, reference::<ProblemDocument<'static>>());
    let response = match header {
        Some((name, description, kind)) => {
            let schema = ObjectBuilder::new().schema_type(SchemaType::new(kind)).build();
            let header = HeaderBuilder::new()
                .schema(Some(schema))
                .description(Some(description))
                .build();
            response.header(name, header)
        }
        None => response,
    };
    response.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        let text = String::from_utf8(text().to_vec()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["openapi"], "3.1.0");
        let references: Vec<_> = text.split("\"#/").skip(1).collect();
        assert!(references.len() > 20, "{text}");
        for reference in references {
            let pointer = format!("/{}", reference.split('"').next().unwrap());
            assert!(json.pointer(&pointer).is_some(), "{pointer}");
        }
        for name in ["Push", "Batch", "Revocation"] {
            assert_eq!(
                json["components"]["schemas"][name]["additionalProperties"], false,
                "{name}"
            );
        }
        for route in Route::ALL {
            let operation = &json["paths"][route.path()][route.method().as_str().to_lowercase()];
            assert_eq!(operation["operationId"], route.as_str());
            assert_eq!(operation.get("security").is_some(), route.right().is_some());
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert_eq!(parameter["required"], parameter["in"] == "path", "{parameter}");
            }
        }
    }
}
