//! Tokens as text that doesn't depend on how the source is laid out: for names and fingerprints.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use quote::ToTokens;

/// The text of the tokens, with the same spaces wherever the user put theirs.
pub fn text(tokens: impl ToTokens) -> String {
    let mut text = String::new();
    write(tokens.to_token_stream(), &mut text);
    text
}

fn write(tokens: TokenStream, text: &mut String) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                text.push_str(open);
                write(group.stream(), text);
                text.push_str(close);
            }
            TokenTree::Punct(punct) => match punct.as_char() {
                // A comma at the end means nothing.
                ',' if tokens
                    .peek()
                    .is_none_or(|next| matches!(next, TokenTree::Punct(p) if p.as_char() == '>')) => {}
                ',' => text.push_str(", "),
                ';' => text.push_str("; "),
                '-' if punct.spacing() == Spacing::Joint => text.push_str(" -"),
                '>' if text.ends_with(" -") => text.push_str("> "),
                '+' | '=' => {
                    text.push(' ');
                    text.push(punct.as_char());
                    text.push(' ');
                }
                other => text.push(other),
            },
            word => {
                if text.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"') {
                    text.push(' ');
                }
                text.push_str(&word.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_makes_no_difference() {
        let tight: TokenStream = "HashMap<String,Vec<[u8;4]>>".parse().unwrap();
        let loose: TokenStream = "HashMap < String , Vec < [ u8 ; 4 ] , > , >".parse().unwrap();
        assert_eq!(text(tight), "HashMap<String, Vec<[u8; 4]>>");
        assert_eq!(text(loose), "HashMap<String, Vec<[u8; 4]>>");
    }

    #[test]
    fn words_stay_apart() {
        let tokens: TokenStream = "&mut dyn Fn(u8) -> Box<dyn A + B>".parse().unwrap();
        assert_eq!(text(tokens), "&mut dyn Fn(u8) -> Box<dyn A + B>");
    }
}
