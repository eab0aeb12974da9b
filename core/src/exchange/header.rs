//! Names of the headers that answers carry, and the list of those that pages may read.

macro_rules! names {
    ($($(#[doc = $doc:literal])* $constant:ident = $name:literal;)*) => {
        $($(#[doc = $doc])* pub const $constant: &str = $name;)*
    };
}

/// Names, and [`EXPOSED`] with all of them.
macro_rules! exposed {
    (
        $(#[doc = $doc:literal])* $first:ident = $name:literal;
        $($(#[doc = $more:literal])* $constant:ident = $other:literal;)*
    ) => {
        names! {
            $(#[doc = $doc])* $first = $name;
            $($(#[doc = $more])* $constant = $other;)*
        }

        /// `Access-Control-Expose-Headers`: every header of an answer that the Fetch standard does not let pages read anyway.
        pub const EXPOSED: &str = concat!($name $(, ", ", $other)*);
    };
}

names! {
    /// The media type of the body.
    CONTENT_TYPE = "content-type";
    /// Rules for caches of the body.
    CACHE_CONTROL = "cache-control";
    /// What a page may load and do.
    CONTENT_SECURITY_POLICY = "content-security-policy";
}

exposed! {
    /// The id of the request.
    REQUEST_ID = "x-request-id";
    /// The session that answers.
    SESSION_ID = "x-session-id";
    /// The session that was opened (Model Context Protocol, Streamable HTTP).
    MCP_SESSION_ID = "mcp-session-id";
    /// The address of what was made (RFC 9110, 10.2.2).
    LOCATION = "location";
    /// The state of a resource (RFC 9110, 8.8.3).
    ETAG = "etag";
    /// Seconds until a repetition may succeed.
    RETRY_AFTER = "retry-after";
    /// Requests a minute that the key has.
    LIMIT_REQUESTS = "x-ratelimit-limit-requests";
    /// Requests that are left of them.
    REMAINING_REQUESTS = "x-ratelimit-remaining-requests";
    /// Tokens a minute that the key has.
    LIMIT_TOKENS = "x-ratelimit-limit-tokens";
    /// Tokens that are left of them.
    REMAINING_TOKENS = "x-ratelimit-remaining-tokens";
    /// Time until all requests are there again.
    RESET_REQUESTS = "x-ratelimit-reset-requests";
    /// Time until all tokens are there again.
    RESET_TOKENS = "x-ratelimit-reset-tokens";
    /// The id of the request, by the name that Anthropic's clients read.
    ANTHROPIC_REQUEST_ID = "request-id";
    /// Advice to OpenAI's clients to repeat the request or not.
    SHOULD_RETRY = "x-should-retry";
    /// Parameters that the agent does not take.
    IGNORED_PARAMETERS = "x-ignored-parameters";
    /// Methods that the path takes, on 405 (RFC 9110, 10.2.1).
    ALLOW = "allow";
    /// Scheme by which a client shows a key, on 401 (RFC 9110, 11.6.1).
    WWW_AUTHENTICATE = "www-authenticate";
    /// Tells nginx to pass a stream on as it comes.
    ACCEL_BUFFERING = "x-accel-buffering";
}
