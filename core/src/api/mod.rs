//! Routes and every answer that is not an exchange.
