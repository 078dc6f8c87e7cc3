//! `#[lost]`: the method that is told of lost holders.

use crate::{
    errors::Errors,
    model::{Access, Method, args},
};

/// Checks the attribute on all methods. Takes it away where it is wrong.
pub fn check(methods: &mut [Method], errors: &mut Errors) {
    let mut first = None;
    for method in methods {
        let Some(attr) = &method.lost else { continue };
        let name = &method.name;
        let problem = if attr.meta.require_path_only().is_err() {
            Some("`#[lost]` takes no options".to_owned())
        } else if let Some(first) = &first {
            Some(format!(
                "a block has one `#[lost]` method, and `{first}` is one: let it do what `{name}` does, too"
            ))
        } else if method.when.is_some() || method.then.is_some() {
            Some(format!(
                "`{name}` is called when a holder is lost, and can't wait: remove `#[when]` and `#[then]`"
            ))
        } else if method.receiver.access == Access::Read {
            Some(format!("`{name}` takes back what lost holders held, so it is a write: give it `&mut self`"))
        } else if args(&method.params).count() != 1 {
            Some(format!(
                "a `#[lost]` method takes one argument beside `self`: `fn {name}(&mut self, lost: &Lost)`"
            ))
        } else {
            first = Some(name.clone());
            None
        };
        if let Some(problem) = problem {
            errors.on(attr, problem);
            method.lost = None;
        }
    }
}
