//! `#[then(target)]`: where calls continue.

use syn::Ident;

use crate::{
    errors::Errors,
    model::{Access, Method, args},
};

/// Checks the continuations of all methods. Takes away those that are wrong.
pub fn check(methods: &mut [Method], errors: &mut Errors) {
    let names: Vec<Ident> = methods.iter().map(|method| method.name.clone()).collect();
    let inputs: Vec<usize> = methods.iter().map(|method| args(&method.params).count()).collect();
    for method in methods.iter_mut() {
        let Some(then) = &mut method.then else { continue };
        let target = &then.target;
        let number = names.iter().position(|name| name == target);
        let problem = match number {
            None => Some(format!(
                "there is no method `{target}` in this block for `{}` to continue in: a continuation is a method of \
                 the same `#[shared]` block, with `self` and one argument",
                method.name
            )),
            Some(number) if inputs[number] != 1 => Some(format!(
                "`{target}` takes {} arguments beside `self`, but a continuation takes exactly one: what `{}` returns",
                inputs[number], method.name
            )),
            Some(_) if method.receiver.access == Access::Read => Some(format!(
                "only a write continues in another method, and `{}` is a read (`&self`): make it `&mut self`, or let \
                 callers use `{target}` itself",
                method.name
            )),
            Some(_) => None,
        };
        match problem {
            Some(problem) => {
                errors.on(target, problem);
                method.then = None;
            }
            None => then.number = number,
        }
    }
    cycles(methods, errors);
}

/// Gives all targets their numbers, once it is clear which methods there are.
pub fn number(methods: &mut [Method]) {
    let names: Vec<Ident> = methods.iter().map(|method| method.name.clone()).collect();
    for method in methods {
        if let Some(then) = &mut method.then {
            then.number = names.iter().position(|name| *name == then.target);
        }
    }
}

/// Reports every cycle once, on the first of its methods.
fn cycles(methods: &mut [Method], errors: &mut Errors) {
    let mut done = vec![false; methods.len()];
    for start in 0..methods.len() {
        let mut path = Vec::new();
        let mut next = Some(start);
        while let Some(at) = next.filter(|&at| !done[at] && !path.contains(&at)) {
            path.push(at);
            next = methods[at].then.as_ref().and_then(|then| then.number);
        }
        for &at in &path {
            done[at] = true;
        }
        let Some(entry) = next.and_then(|next| path.iter().position(|&at| at == next)) else { continue };
        let circle: Vec<_> = path[entry..].iter().chain([&path[entry]]).collect();
        let names: Vec<_> = circle.iter().map(|&&at| format!("`{}`", methods[at].name)).collect();
        if let Some(then) = methods[path[entry]].then.take() {
            errors.on(
                then.target,
                format!(
                    "a call would never end: {} continue in each other. Let one of them return its result",
                    names.join(" → ")
                ),
            );
        }
    }
}
