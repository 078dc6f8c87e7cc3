//! The attributes of `crucial`.

use proc_macro::TokenStream;

/// Placeholder.
#[proc_macro_attribute]
pub fn shared(_options: TokenStream, item: TokenStream) -> TokenStream {
    item
}
/// Placeholder.
#[proc_macro_attribute]
pub fn cloud_fn(_options: TokenStream, item: TokenStream) -> TokenStream {
    item
}
/// Placeholder.
#[proc_macro_attribute]
pub fn main(_options: TokenStream, item: TokenStream) -> TokenStream {
    item
}
/// Placeholder.
#[proc_macro_attribute]
pub fn test(_options: TokenStream, item: TokenStream) -> TokenStream {
    item
}
