//! The attributes of `crucial`.

mod check;
mod errors;
mod expand;
mod model;
mod parse;
mod text;

use proc_macro::TokenStream;

/// Shares a struct, its impl block, or a static.
#[proc_macro_attribute]
pub fn shared(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::shared(options.into(), item.into()).into()
}

/// Makes a function one that cloud threads run.
#[proc_macro_attribute]
pub fn cloud_fn(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::cloud_fn(options.into(), item.into()).into()
}

/// The entry point of a program.
#[proc_macro_attribute]
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::main(options.into(), item.into()).into()
}

/// A test that may use shared objects and cloud threads.
#[proc_macro_attribute]
pub fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::test(options.into(), item.into()).into()
}
