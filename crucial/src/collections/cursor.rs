use std::{collections::VecDeque, fmt};

use serde::{Deserialize, Serialize};

/// How large a page may be.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[doc(hidden)]
pub struct Limit {
    pub(super) elements: usize,
    bytes: usize,
}

impl Default for Limit {
    fn default() -> Self {
        Limit { elements: 1024, bytes: 256 << 10 }
    }
}

impl Limit {
    /// So many elements, whatever their size.
    pub(super) fn of(elements: usize) -> Self {
        Limit { elements, bytes: usize::MAX }
    }
}

/// Elements that follow each other in a collection at one moment.
#[derive(Debug, Serialize, Deserialize)]
#[doc(hidden)]
pub struct Page<T> {
    pub(super) elements: Vec<T>,
    /// Whether others follow.
    pub(super) more: bool,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Page { elements: Vec::new(), more: false }
    }
}

impl<T> Page<T> {
    /// The first of these elements, and at least one if there is one.
    pub(super) fn of(elements: impl Iterator<Item = T>, limit: Limit, size: impl Fn(&T) -> usize) -> Self {
        let mut page = Page::default();
        let mut bytes = 0_usize;
        for element in elements {
            if page.elements.len() >= limit.elements.max(1) || bytes >= limit.bytes {
                page.more = true;
                break;
            }
            bytes = bytes.saturating_add(size(&element));
            page.elements.push(element);
        }
        page
    }
}

/// Where pages come from. Remembers what it gave from both ends.
pub(super) trait Pages<T>: Send {
    fn next(&mut self, limit: Limit) -> Page<T>;
    fn next_back(&mut self, limit: Limit) -> Page<T>;
}

/// An iterator over a collection that stays on its server, in pages: a page is one call, and no more than two pages are
/// in memory, whatever the collection's size.
///
/// Each page is what the collection held at one moment, and it changes between pages. In a map or a set, an element that
/// is there all the time is seen exactly once; one that comes or goes meanwhile may be seen or not, and a value is that
/// of its page's moment. In a sequence, positions are followed: an element that moves to another position because
/// elements come or go before it may be missed or seen twice. For one moment's view of everything, use `to_map`,
/// `to_set` or `to_vec`, which are one call.
///
/// A call that fails panics, as others do.
pub struct Cursor<T> {
    pages: Box<dyn Pages<T>>,
    limit: Limit,
    front: VecDeque<T>,
    back: VecDeque<T>,
    done: bool,
}

impl<T> Cursor<T> {
    pub(super) fn new(pages: impl Pages<T> + 'static) -> Self {
        Cursor {
            pages: Box::new(pages),
            limit: Limit::default(),
            front: VecDeque::new(),
            back: VecDeque::new(),
            done: false,
        }
    }

    /// Takes this many elements with a call, at least 1, instead of 1024. A page also ends when its elements have
    /// 256 KiB.
    #[must_use]
    pub fn page_size(mut self, elements: usize) -> Self {
        self.limit.elements = elements.max(1);
        self
    }
}

impl<T> fmt::Debug for Cursor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor").field("done", &self.done).finish_non_exhaustive()
    }
}

impl<T> Iterator for Cursor<T> {
    type Item = T;

    #[track_caller]
    fn next(&mut self) -> Option<T> {
        if self.front.is_empty() && !self.done {
            let page = self.pages.next(self.limit);
            self.done = !page.more;
            self.front.extend(page.elements);
        }
        self.front.pop_front().or_else(|| self.back.pop_front())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let here = self.front.len() + self.back.len();
        (here, self.done.then_some(here))
    }
}

impl<T> DoubleEndedIterator for Cursor<T> {
    #[track_caller]
    fn next_back(&mut self) -> Option<T> {
        if self.back.is_empty() && !self.done {
            let page = self.pages.next_back(self.limit);
            self.done = !page.more;
            self.back.extend(page.elements.into_iter().rev());
        }
        self.back.pop_back().or_else(|| self.front.pop_back())
    }
}

impl<T> std::iter::FusedIterator for Cursor<T> {}
