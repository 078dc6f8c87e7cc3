//! `docs/std.md` says of every method of the mirrored types, and of every function of the mirrored modules, what became
//! of it. Three sources have to agree: the table, the list of what std has, and what is public in this repository's
//! source. Where Rust's documentation is installed, the list is compared with it, too, and no type that std has under
//! the same path may be without a section.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::{Attribute, ImplItem, Item, Meta, Type, UseTree, Visibility, parse_quote};

/// What every shared type has, whatever it mirrors.
const EVERYWHERE: [&str; 2] = ["at", "remote"];

/// The version of Rust whose methods are listed.
const RUST: &str = "1.95.";

/// The methods of types, and the functions of modules, by their paths.
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

/// A section of the table: a type or a module of ours, and that of std. Types that are alike share one, and have the
/// paths `a::{B, C}`.
struct Section {
    pairs: Vec<(String, String)>,
    rows: Vec<Row>,
}

impl Section {
    fn new(title: &str) -> Self {
        let (ours, std) = title.split_once(" = ").unwrap_or_else(|| panic!("`ours` = `std`: {title}"));
        let [ours, std] = [ours, std].map(|paths| alternatives(paths.trim_matches('`')));
        assert_eq!(ours.len(), std.len(), "as many types of ours as of std: {title}");
        Section { pairs: ours.into_iter().zip(std).collect(), rows: Vec::new() }
    }
}

/// The paths that `a::{B, C}` stands for.
fn alternatives(paths: &str) -> Vec<String> {
    let Some((module, names)) = paths.strip_suffix('}').and_then(|paths| paths.split_once('{')) else {
        return vec![paths.to_owned()];
    };
    names.split(", ").map(|name| format!("{module}{name}")).collect()
}

/// Modules have functions, types have methods.
fn is_module(path: &str) -> bool {
    last(path).starts_with(char::is_lowercase)
}

fn last(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path)
}

fn table() -> Vec<Section> {
    let text = fs::read_to_string(repository().join("docs/std.md")).unwrap();
    let mut sections: Vec<Section> = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            sections.push(Section::new(title));
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
    let mut list = Methods::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (paths, methods) = line.split_once(": ").unwrap_or_else(|| panic!("type: methods: {line}"));
        for path in alternatives(paths) {
            let methods = methods.split(' ').map(str::to_owned).collect();
            assert!(list.insert(path.clone(), methods).is_none(), "{path} is listed twice");
        }
    }
    list
}

#[test]
fn the_table_has_every_method_of_std() {
    let list = list();
    let mut mirrored = BTreeSet::new();
    for Section { pairs, rows } in table() {
        let shown: BTreeSet<_> =
            rows.iter().filter(|row| row.here != "added").map(|row| &*row.method).collect();
        for (ours, std) in &pairs {
            let listed = list.get(std).unwrap_or_else(|| panic!("{std} is not listed"));
            let listed: BTreeSet<_> = listed.iter().map(|m| m.trim_end_matches('*')).collect();
            assert_eq!(shown, listed, "the methods of {std} in the table and in the list");
            assert!(mirrored.insert(std.clone()), "{std} is in the table twice");
            let distinct: BTreeSet<_> = rows.iter().map(|row| &row.method).collect();
            assert_eq!(distinct.len(), rows.len(), "a method of {ours} is in the table twice");
            for Row { method, here, note } in &rows {
                assert!(["yes", "differs", "no", "added"].contains(&&**here), "{ours}::{method} is {here:?}");
                assert!(here == "yes" || !note.is_empty(), "{ours}::{method} needs a note");
            }
        }
    }
    assert_eq!(mirrored, list.into_keys().collect(), "the types in the table and in the list");
}

#[test]
fn the_table_has_every_method_here() {
    let source = source();
    for Section { pairs, rows } in table() {
        let shown: BTreeSet<_> =
            rows.iter().filter(|row| row.here != "no").map(|row| row.method.clone()).collect();
        for (ours, _) in pairs {
            let mut there = source.get(&ours).unwrap_or_else(|| panic!("the source has no {ours}")).clone();
            there.retain(|method| !EVERYWHERE.contains(&&**method));
            assert_eq!(shown, there, "the methods of {ours} in the table and in the source");
        }
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
        let documented = documented(&docs, &path).unwrap_or_else(|| panic!("{path} has no page"));
        assert_eq!(documented, listed, "the methods of {path} in std's documentation and in the list");
    }
    let shown: BTreeSet<_> = table().into_iter().flat_map(|s| s.pairs).map(|(ours, _)| ours).collect();
    for ours in source().into_keys().filter(|ours| !shown.contains(ours)) {
        let Some(path) = ours.strip_prefix("crucial::") else { continue };
        let methods = documented(&docs, &format!("std::{path}")).unwrap_or_default();
        assert!(methods.is_empty(), "{ours} has no section, and std's has {methods:?}");
    }
}

/// The methods of a type of std, or the functions of a module, in std's documentation.
fn documented(docs: &Path, path: &str) -> Option<BTreeSet<String>> {
    let folder = |path: &str| docs.join(path.replace("::", "/"));
    if is_module(path) {
        let pages = fs::read_dir(folder(path)).ok()?.map(|entry| entry.unwrap().path());
        let functions = pages.filter_map(|page| {
            let name = page.file_name()?.to_str()?.strip_prefix("fn.")?.strip_suffix(".html")?.to_owned();
            Some(marked(&name, &fs::read_to_string(page).unwrap()))
        });
        return Some(functions.collect());
    }
    let (module, name) = path.rsplit_once("::")?;
    let page = ["struct", "enum"]
        .iter()
        .find_map(|kind| fs::read_to_string(folder(module).join(format!("{kind}.{name}.html"))).ok())?;
    Some(inherent(&page))
}

/// A name, with a `*` if its documentation says that it is nightly-only.
fn marked(name: &str, documentation: &str) -> String {
    let mark = if documentation.contains("stab unstable") { "*" } else { "" };
    format!("{name}{mark}")
}

/// The inherent methods on a page of std's documentation.
fn inherent(page: &str) -> BTreeSet<String> {
    let inherent = page.split_once("id=\"implementations\"").map_or("", |(_, inherent)| inherent);
    let end = ["id=\"deref-methods-", "id=\"trait-implementations\""]
        .iter()
        .filter_map(|end| inherent.find(end))
        .min();
    let inherent = &inherent[..end.unwrap_or(inherent.len())];
    let methods = inherent.split("<section id=\"method.").skip(1).map(|method| {
        let (name, rest) = method.split_once('"').expect("an attribute ends");
        marked(name, rest.split("</summary>").next().unwrap_or(rest))
    });
    methods.collect()
}

/// A `macro_rules!` whose body has impl blocks: the parameters before the first `;` of its pattern.
struct Macro {
    parameters: Vec<String>,
    /// The pattern is one repetition: each so many words of a call are the arguments for one.
    repeats: bool,
    body: TokenStream,
}

/// What is public in `crucial/src`, be it written out or made by a macro.
fn source() -> Methods {
    let mut source = Source::default();
    source.file(&repository().join("crucial/src/lib.rs"), "crucial", true);
    source.expand();
    source.methods
}

#[derive(Default)]
struct Source {
    methods: Methods,
    macros: BTreeMap<String, Macro>,
    /// The calls of macros, and the modules that they are in.
    calls: Vec<(String, syn::Macro)>,
}

impl Source {
    /// Reads a module. `path` is that of the innermost public module around it, whose items its own are a part of;
    /// `public` says whether that is this one.
    fn file(&mut self, file: &Path, path: &str, public: bool) {
        let items = syn::parse_file(&fs::read_to_string(file).unwrap()).unwrap().items;
        let stem = file.file_stem().unwrap();
        let folder = file.parent().unwrap();
        let folder = if stem == "mod" || stem == "lib" { folder.to_owned() } else { folder.join(stem) };
        self.items(items, &folder, path, public);
    }

    fn items(&mut self, items: Vec<Item>, folder: &Path, path: &str, public: bool) {
        for item in items {
            match item {
                Item::Mod(module) if !hidden(&module.attrs) => {
                    let name = module.ident.to_string();
                    let public = is_public(&module.vis);
                    let path = if public { format!("{path}::{name}") } else { path.to_owned() };
                    match module.content {
                        Some((_, items)) => self.items(items, &folder.join(name), &path, public),
                        None => {
                            let file = folder.join(format!("{name}.rs"));
                            let file = if file.exists() { file } else { folder.join(name).join("mod.rs") };
                            self.file(&file, &path, public);
                        }
                    }
                }
                Item::Fn(function) if public && is_public(&function.vis) && !hidden(&function.attrs) => {
                    self.insert(path, function.sig.ident.to_string());
                }
                Item::Use(import) if public && is_public(&import.vis) => {
                    let functions = leaves(&import.tree).into_iter().filter(|name| is_module(name));
                    functions.for_each(|name| self.insert(path, name));
                }
                Item::Struct(ty) if is_public(&ty.vis) && !hidden(&ty.attrs) => {
                    self.methods.entry(format!("{path}::{}", ty.ident)).or_default();
                }
                Item::Impl(block) if block.trait_.is_none() => {
                    let Type::Path(ty) = &*block.self_ty else { continue };
                    let ty = format!("{path}::{}", ty.path.segments.last().unwrap().ident);
                    for item in block.items {
                        if let ImplItem::Fn(f) = item
                            && is_public(&f.vis)
                            && !hidden(&f.attrs)
                        {
                            self.insert(&ty, f.sig.ident.to_string());
                        }
                    }
                }
                Item::Macro(rules) if rules.mac.path.is_ident("macro_rules") => {
                    if let (Some(name), Some(rules)) = (&rules.ident, definition(rules.mac.tokens)) {
                        self.macros.insert(name.to_string(), rules);
                    }
                }
                Item::Macro(call) => self.calls.push((path.to_owned(), call.mac)),
                _ => {}
            }
        }
    }

    fn insert(&mut self, owner: &str, method: String) {
        self.methods.entry(owner.to_owned()).or_default().insert(method);
    }

    /// Adds what the calls of macros make.
    fn expand(&mut self) {
        for (path, call) in &self.calls {
            let name = call.path.segments.last().unwrap().ident.to_string();
            let Some(Macro { parameters, repeats, body }) = self.macros.get(&name) else { continue };
            let arguments = match repeats {
                true => words(call.tokens.clone()).chunks(parameters.len()).map(<[_]>::to_vec).collect(),
                false => vec![first_words(call.tokens.clone())],
            };
            for arguments in arguments {
                let given = parameters.iter().cloned().zip(arguments).collect();
                blocks(body.clone(), path, &given, &mut self.methods);
            }
        }
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn hidden(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        matches!(&attribute.meta, Meta::List(list)
            if list.path.is_ident("doc") && words(list.tokens.clone()) == ["hidden"])
    })
}

/// The names that an import brings.
fn leaves(tree: &UseTree) -> Vec<String> {
    match tree {
        UseTree::Path(path) => leaves(&path.tree),
        UseTree::Name(name) => vec![name.ident.to_string()],
        UseTree::Rename(rename) => vec![rename.rename.to_string()],
        UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
        UseTree::Glob(_) => Vec::new(),
    }
}

/// The first rule of a macro.
fn definition(tokens: TokenStream) -> Option<Macro> {
    let mut groups = groups(tokens);
    let (pattern, body) = (groups.next()?.stream(), groups.next()?.stream());
    let tokens: Vec<_> = pattern.clone().into_iter().collect();
    if let [TokenTree::Punct(_), TokenTree::Group(repeated), TokenTree::Punct(_)] = &tokens[..] {
        // What a repetition makes is in the only group of the body.
        let (parameters, body) = (parameters(repeated.stream()), self::groups(body).next()?.stream());
        return Some(Macro { parameters, repeats: true, body });
    }
    // `$name:ident`: the name is the word before the colon.
    Some(Macro { parameters: first_words(pattern), repeats: false, body })
}

fn groups(tokens: TokenStream) -> impl Iterator<Item = Group> {
    tokens.into_iter().filter_map(|token| match token {
        TokenTree::Group(group) => Some(group),
        _ => None,
    })
}

/// The words, without those in groups.
fn words(tokens: TokenStream) -> Vec<String> {
    let words = tokens.into_iter().filter_map(|token| match token {
        TokenTree::Ident(ident) => Some(ident.to_string()),
        _ => None,
    });
    words.collect()
}

/// Of `$name:ident $other:ident`, the names.
fn parameters(pattern: TokenStream) -> Vec<String> {
    words(pattern).into_iter().step_by(2).collect()
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

/// Finds the inherent impl blocks in the body of a macro that is called in this module, and whose parameters stand for
/// these names.
fn blocks(body: TokenStream, path: &str, given: &BTreeMap<String, String>, methods: &mut Methods) {
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
            methods.entry(format!("{path}::{name}")).or_default().extend(public(block));
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

/// The names after `pub fn` and `pub const fn`, unless they are hidden.
fn public(block: TokenStream) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_hidden = false;
    let mut before = [String::new(), String::new()];
    for token in block {
        let word = match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
                is_hidden |= group.stream().to_string().replace(' ', "") == "doc(hidden)";
                continue;
            }
            // The end of a method.
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                is_hidden = false;
                String::new()
            }
            TokenTree::Ident(ident) if ident == "const" => continue,
            TokenTree::Ident(ident) => ident.to_string(),
            _ => String::new(),
        };
        if before == ["pub", "fn"] && !is_hidden {
            names.push(word.clone());
        }
        before = [std::mem::take(&mut before[1]), word];
    }
    names
}

#[test]
fn the_source_is_read_as_rustdoc_reads_it() {
    let file: syn::File = parse_quote! {
        pub use std::thread::{AccessError, sleep};
        pub fn spawn() {}
        fn private() {}
        #[doc(hidden)]
        pub fn hidden() {}
        mod builder {
            pub struct Builder;
            impl Builder {
                pub const fn new() -> Self { Builder }
                #[doc(hidden)]
                pub fn hidden(&self) {}
                pub(crate) fn parts(&self) {}
            }
            impl Drop for Builder {
                fn drop(&mut self) {}
            }
            pub fn not_exported() {}
        }
        pub mod executor {
            pub struct Builder;
            pub struct Nothing;
            impl Builder {
                pub fn concurrency(&self) {}
            }
            macro_rules! numbers {
                ($($name:ident $int:ident)*) => {$(
                    pub struct $name($int);
                    impl $name {
                        #[doc(hidden)]
                        pub fn raw(&self) {}
                        /// The value.
                        pub fn load(&self) -> $int { self.0 }
                    }
                    impl Clone for $name {
                        fn clone(&self) -> Self { $name(self.0) }
                    }
                )*};
            }
            numbers! { Small u8 Large u64 }
        }
    };
    let mut source = Source::default();
    source.items(file.items, Path::new(""), "crucial", true);
    source.expand();
    let expected = [
        ("crucial", &["sleep", "spawn"][..]),
        ("crucial::Builder", &["new"]),
        ("crucial::executor::Builder", &["concurrency"]),
        ("crucial::executor::Large", &["load"]),
        ("crucial::executor::Nothing", &[]),
        ("crucial::executor::Small", &["load"]),
    ];
    let owned = |names: &[&str]| names.iter().copied().map(str::to_owned).collect();
    let expected: Methods =
        expected.into_iter().map(|(path, methods)| (path.to_owned(), owned(methods))).collect();
    assert_eq!(source.methods, expected);
}
