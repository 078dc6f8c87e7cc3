//! The options in an attribute's parentheses: `name`, `name = value` or `name(..)`.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{
    Expr, ExprLit, Ident, Lit, LitStr, Token,
    ext::IdentExt,
    parse::{Parse, ParseStream, Parser},
};

use crate::errors::Errors;

/// One option.
pub struct Opt {
    /// Its name, on which most errors are reported.
    pub name: Ident,
    value: Value,
}

enum Value {
    None,
    Equals(Expr),
    List(TokenStream),
}

impl Parse for Opt {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let name = input
            .call(Ident::parse_any)
            .map_err(|e| syn::Error::new(e.span(), "expected the name of an option"))?;
        let value = if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            Value::Equals(input.parse()?)
        } else if input.peek(syn::token::Paren) {
            let content;
            syn::parenthesized!(content in input);
            Value::List(content.parse()?)
        } else {
            Value::None
        };
        if !input.is_empty() && !input.peek(Token![,]) {
            return Err(input.error("expected `,` between options"));
        }
        Ok(Opt { name, value })
    }
}

/// Reads all options; an option that is given twice counts once.
pub fn parse(tokens: TokenStream, errors: &mut Errors) -> Vec<Opt> {
    let mut options: Vec<Opt> = Vec::new();
    let parser = |input: ParseStream| {
        while !input.is_empty() {
            match input.parse::<Opt>() {
                Ok(option) if options.iter().any(|other| other.name == option.name) => {
                    errors.on(&option.name, format!("`{}` is given twice: keep one of them", option.name));
                }
                Ok(option) => options.push(option),
                Err(error) => {
                    errors.add(error);
                    while !input.is_empty() && !input.peek(Token![,]) {
                        input.parse::<proc_macro2::TokenTree>()?;
                    }
                }
            }
            input.parse::<Option<Token![,]>>()?;
        }
        Ok(())
    };
    // The parser notes its errors itself.
    let _: syn::Result<()> = parser.parse2(tokens);
    options
}

impl Opt {
    /// Whether the option is there, for one that has no value.
    pub fn flag(&self, errors: &mut Errors) -> bool {
        match &self.value {
            Value::None => {}
            Value::Equals(value) => {
                errors.on(value, format!("`{0}` has no value: write `{0}` alone", self.name));
            }
            Value::List(list) => errors
                .on(on_list(&self.name, list), format!("`{0}` has no value: write `{0}` alone", self.name)),
        }
        true
    }

    /// The value of an option that is a string, like `example`.
    pub fn string(&self, example: &str, errors: &mut Errors) -> Option<LitStr> {
        match self.literal() {
            Some(Lit::Str(value)) => Some(value.clone()),
            _ => self.mismatch("a string", example, errors),
        }
    }

    /// The value of an option that is a literal, like `example`.
    pub fn literal(&self) -> Option<&Lit> {
        match &self.value {
            Value::Equals(Expr::Lit(ExprLit { lit, .. })) => Some(lit),
            Value::Equals(Expr::Group(group)) => match &*group.expr {
                Expr::Lit(ExprLit { lit, .. }) => Some(lit),
                _ => None,
            },
            _ => None,
        }
    }

    /// The tokens of an option that is a list, like `example`.
    pub fn list(&self, example: &str, errors: &mut Errors) -> Option<TokenStream> {
        match &self.value {
            Value::List(list) => Some(list.clone()),
            _ => self.mismatch("a list", example, errors),
        }
    }

    /// An error on the value, which is not what it should be.
    pub fn mismatch<T>(&self, expected: &str, example: &str, errors: &mut Errors) -> Option<T> {
        let message = format!("`{}` is {expected}: `{example}`", self.name);
        match &self.value {
            Value::Equals(value) => errors.on(value, message),
            Value::List(list) => errors.on(on_list(&self.name, list), message),
            Value::None => errors.on(&self.name, message),
        }
        None
    }
}

/// What to mark for a list: its tokens, or the option if there are none.
fn on_list(name: &Ident, list: &TokenStream) -> TokenStream {
    if list.is_empty() { name.to_token_stream() } else { list.clone() }
}
