//! `docs/std.md` says of every method of the mirrored types what became of it. Three sources have to agree: the table,
//! the list of std's methods, and the public methods in this repository's source. Where Rust's documentation is
//! installed, the list is compared with it, too.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::{ImplItem, Item, Type, Visibility};

/// What every shared type has, whatever it mirrors.
const EVERYWHERE: [&str; 2] = ["at", "remote"];

/// The version of Rust whose methods are listed.
const RUST: &str = "1.95.";

type Methods = BTreeMap<String, BTreeSet<String>>;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are in a folder of the repository")
        .to_owned()
}

struct Row {
    method: String,
    here: String,
    note: String,
}

/// A section of the table: a type of ours and one of std.
struct Section {
    ours: String,
    std: String,
    rows: Vec<Row>,
}

fn table() -> Vec<Section> {
    let text = fs::read_to_string(repository().join("docs/std.md")).unwrap();
    let mut sections = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            let (ours, std) = title.split_once(" = ").unwrap_or_else(|| panic!("`ours` = `std`: {line}"));
            let [ours, std] = [ours, std].map(|path| path.trim_matches('`').to_owned());
            sections.push(Section { ours, std, rows: Vec::new() });
        } else if let (Some(section), Some(cells)) = (sections.last_mut(), line.strip_prefix("| `")) {
            let cells: Vec<_> = cells.trim_end_matches('|').split('|').map(str::trim).collect();
            let [method, here, note] = cells[..] else { panic!("three columns: {line}") };
            let method = method.trim_end_matches('`').to_owned();
            section.rows.push(Row { method, here: here.to_owned(), note: note.to_owned() });
        }
    }
    sections
}

/// The listed methods of each type of std.
fn list() -> Methods {
    let text = fs::read_to_string(repository().join("tests/std/methods.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parse = |line: &str| {
        let (path, methods) = line.split_once(": ").unwrap_or_else(|| panic!("type: methods: {line}"));
        (path.to_owned(), methods.split(' ').map(str::to_owned).collect())
    };
    lines.map(parse).collect()
}

#[test]
fn the_table_has_every_method_of_std() {
    let list = list();
    for Section { ours, std, rows } in table() {
        let listed: BTreeSet<_> = list
            .get(&std)
            .unwrap_or_else(|| panic!("{std} is not listed"))
            .iter()
            .map(|m| m.trim_end_matches('*'))
            .collect();
        let shown: BTreeSet<_> =
            rows.iter().filter(|row| row.here != "added").map(|row| &*row.method).collect();
        assert_eq!(shown, listed, "the methods of {std} in the table and in the list");
        let distinct: BTreeSet<_> = rows.iter().map(|row| &row.method).collect();
        assert_eq!(distinct.len(), rows.len(), "a method of {ours} is in the table twice");
        for Row { method, here, note } in &rows {
            assert!(["yes", "differs", "no", "added"].contains(&&**here), "{ours}::{method} is {here:?}");
            assert!(here == "yes" || !note.is_empty(), "{ours}::{method} needs a note");
        }
    }
}

#[test]
fn the_table_has_every_method_here() {
    let source = source();
    for Section { ours, rows, .. } in table() {
        let name = ours.rsplit("::").next().unwrap();
        let mut there = source.get(name).unwrap_or_else(|| panic!("the source has no {ours}")).clone();
        EVERYWHERE.iter().for_each(|method| {
            there.remove(*method);
        });
        let shown: BTreeSet<_> =
            rows.into_iter().filter(|row| row.here != "no").map(|row| row.method).collect();
        assert_eq!(shown, there, "the methods of {ours} in the table and in the source");
    }
}

#[test]
fn the_list_is_that_of_std() {
    let rustc = |args: &[&str]| {
        let output = Command::new("rustc").args(args).output().ok()?;
        String::from_utf8(output.stdout).ok()
    };
    let Some(version) = rustc(&["--version"]).filter(|version| version.contains(&format!(" {RUST}"))) else {
        return eprintln!("not compared: this is not Rust {RUST}");
    };
    let root = rustc(&["--print", "sysroot"]).unwrap_or_default();
    let docs = Path::new(root.trim()).join("share/doc/rust/html");
    if !docs.is_dir() {
        return eprintln!("not compared: the documentation of {} is not installed", version.trim());
    }
    for (path, listed) in list() {
        let (module, name) = path.rsplit_once("::").unwrap();
        let folder = docs.join(module.replace("::", "/"));
        let page = ["struct", "enum"]
            .iter()
            .find_map(|kind| fs::read_to_string(folder.join(format!("{kind}.{name}.html"))).ok());
        let page = page.unwrap_or_else(|| panic!("{path} has no page"));
        assert_eq!(documented(&page), listed, "the methods of {path} in std's documentation and in the list");
    }
}

/// The inherent methods on a page of std's documentation.
fn documented(page: &str) -> BTreeSet<String> {
    let (_, inherent) = page.split_once("id=\"implementations\"").expect("it has methods");
    let end = ["id=\"deref-methods-", "id=\"trait-implementations\""]
        .iter()
        .filter_map(|end| inherent.find(end))
        .min();
    let inherent = &inherent[..end.unwrap_or(inherent.len())];
    let methods = inherent.split("<section id=\"method.").skip(1).map(|method| {
        let (name, rest) = method.split_once('"').expect("an attribute ends");
        let head = rest.split("</summary>").next().unwrap_or(rest);
        let mark = if head.contains("stab unstable") { "*" } else { "" };
        format!("{name}{mark}")
    });
    methods.collect()
}

/// A `macro_rules!` whose body has impl blocks: the parameters before the first `;` of its pattern.
struct Macro {
    parameters: Vec<String>,
    body: TokenStream,
}

/// The public methods of all types in `crucial/src`, be they written out or by a macro.
fn source() -> Methods {
    let mut files = Vec::new();
    collect(&repository().join("crucial/src"), &mut files);
    let items: Vec<Item> = files
        .iter()
        .flat_map(|file| syn::parse_file(&fs::read_to_string(file).unwrap()).unwrap().items)
        .collect();
    let mut methods = Methods::new();
    let mut macros = BTreeMap::new();
    for item in &items {
        match item {
            Item::Impl(block) if block.trait_.is_none() => {
                let Type::Path(path) = &*block.self_ty else { continue };
                let name = path.path.segments.last().unwrap().ident.to_string();
                let public = block.items.iter().filter_map(|item| match item {
                    ImplItem::Fn(f) if matches!(f.vis, Visibility::Public(_)) => {
                        Some(f.sig.ident.to_string())
                    }
                    _ => None,
                });
                methods.entry(name).or_default().extend(public);
            }
            Item::Macro(rules) if rules.mac.path.is_ident("macro_rules") => {
                if let (Some(name), Some(rules)) = (&rules.ident, definition(rules.mac.tokens.clone())) {
                    macros.insert(name.to_string(), rules);
                }
            }
            _ => {}
        }
    }
    for item in items {
        let Item::Macro(call) = item else { continue };
        let name = call.mac.path.segments.last().unwrap().ident.to_string();
        if let Some(Macro { parameters, body }) = macros.get(&name) {
            let arguments = first_words(call.mac.tokens);
            let given = parameters.iter().cloned().zip(arguments).collect();
            blocks(body.clone(), &given, &mut methods);
        }
    }
    methods
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The first rule of a macro.
fn definition(tokens: TokenStream) -> Option<Macro> {
    let mut groups = tokens.into_iter().filter_map(|token| match token {
        TokenTree::Group(group) => Some(group.stream()),
        _ => None,
    });
    let (pattern, body) = (groups.next()?, groups.next()?);
    // `$name:ident`: the name is the word before the colon.
    let parameters = first_words(pattern);
    Some(Macro { parameters, body })
}

/// The first word of each part before the first `;`, where commas separate the parts.
fn first_words(tokens: TokenStream) -> Vec<String> {
    let mut words = vec![None];
    for token in tokens {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == ';' => break,
            TokenTree::Punct(punct) if punct.as_char() == ',' => words.push(None),
            TokenTree::Ident(ident) => {
                let word = words.last_mut().expect("there is always one");
                word.get_or_insert_with(|| ident.to_string());
            }
            _ => {}
        }
    }
    words.into_iter().map(Option::unwrap_or_default).collect()
}

/// Finds the inherent impl blocks in the body of a macro, whose parameters stand for these names.
fn blocks(body: TokenStream, given: &BTreeMap<String, String>, methods: &mut Methods) {
    let mut tokens = body.into_iter().peekable();
    while let Some(token) = tokens.next() {
        if !matches!(&token, TokenTree::Ident(ident) if ident == "impl") {
            continue;
        }
        let mut header = Vec::new();
        let block = loop {
            match tokens.next() {
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    break group.stream();
                }
                Some(token) => header.push(token),
                None => return,
            }
        };
        if header.iter().any(|token| matches!(token, TokenTree::Ident(ident) if ident == "for")) {
            continue;
        }
        if let Some(name) = self_type(&header) {
            let name = given.get(&name).cloned().unwrap_or(name);
            methods.entry(name).or_default().extend(public(block));
        }
    }
}

/// The first word after the generics.
fn self_type(header: &[TokenTree]) -> Option<String> {
    let mut depth = 0;
    for (at, token) in header.iter().enumerate() {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '<' => depth += 1,
            TokenTree::Punct(punct) if punct.as_char() == '>' => {
                // The arrow of a function's type is no bracket.
                let arrow = at > 0 && matches!(&header[at - 1], TokenTree::Punct(p) if p.as_char() == '-');
                depth -= i32::from(!arrow);
            }
            TokenTree::Ident(ident) if depth == 0 => return Some(ident.to_string()),
            _ => {}
        }
    }
    None
}

/// The names after `pub fn` and `pub const fn`.
fn public(block: TokenStream) -> Vec<String> {
    let words: Vec<String> = block
        .into_iter()
        .map(|token| match token {
            TokenTree::Ident(ident) => ident.to_string(),
            _ => String::new(),
        })
        .filter(|word| word != "const")
        .collect();
    words
        .windows(3)
        .filter(|words| words[0] == "pub" && words[1] == "fn")
        .map(|words| words[2].clone())
        .collect()
}
