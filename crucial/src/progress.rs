//! Progress bars on standard error, where that is a terminal.

#[cfg(feature = "progress")]
pub(crate) use bar::Progress;

#[cfg(feature = "progress")]
mod bar {
    use std::{
        io::{Write, stderr},
        sync::OnceLock,
        time::Duration,
    };

    use crucial_runtime::terminal;
    use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

    /// A bar. It is drawn only where standard error is a terminal.
    #[derive(Debug)]
    pub(crate) struct Progress {
        bar: ProgressBar,
        grows: bool,
    }

    /// All bars of the process share the end of the terminal, and what is printed appears above them.
    fn bars() -> &'static MultiProgress {
        static BARS: OnceLock<MultiProgress> = OnceLock::new();
        BARS.get_or_init(|| {
            terminal::set_guard(|print| bars().suspend(print));
            MultiProgress::new()
        })
    }

    const STYLE: &str = "{msg} [{bar:40}] {human_pos}/{human_len} in {elapsed}, {eta} left";

    impl Progress {
        /// A bar whose length grows with [`expect`](Self::expect).
        pub(crate) fn growing(what: &str) -> Self {
            let mut progress = Self::of(what, Some(0));
            progress.grows = true;
            progress
        }

        /// A bar for so many steps, if their number is known.
        pub(crate) fn of(what: &str, steps: Option<u64>) -> Self {
            let bar = match steps {
                Some(steps) => ProgressBar::new(steps),
                None => ProgressBar::no_length(),
            };
            let style = ProgressStyle::with_template(STYLE).expect("the template is well-formed");
            let bar = bar.with_style(style.progress_chars("=> ")).with_message(what.to_owned());
            let bar = bars().add(bar);
            if !bar.is_hidden() {
                bar.enable_steady_tick(Duration::from_millis(200));
            }
            Progress { bar, grows: false }
        }

        pub(crate) fn expect(&self, steps: u64) {
            if self.grows {
                self.bar.inc_length(steps);
            }
        }

        pub(crate) fn advance(&self, steps: u64) {
            self.bar.inc(steps);
        }

        /// Puts a line in the place of the bar: what has been reached, also if it isn't all.
        pub(crate) fn finish(&self) {
            if self.bar.is_hidden() || self.bar.is_finished() {
                return;
            }
            self.bar.finish_and_clear();
            bars().remove(&self.bar);
            let (what, done, elapsed) = (self.bar.message(), self.bar.position(), self.bar.elapsed());
            let of = match self.bar.length() {
                Some(steps) if steps != done => format!(" of {steps}"),
                _ => String::new(),
            };
            // A closed terminal is no reason to fail.
            let _ = terminal::print(|| writeln!(stderr().lock(), "{what}: {done}{of} in {elapsed:.1?}"));
        }
    }

    impl Drop for Progress {
        fn drop(&mut self) {
            self.finish();
        }
    }
}

/// There are no bars without the feature, so there is no value of this type.
#[cfg(not(feature = "progress"))]
#[derive(Debug)]
pub(crate) enum Progress {}

#[cfg(not(feature = "progress"))]
impl Progress {
    pub(crate) fn growing(_: &str) -> Self {
        unreachable!("nobody can ask for a bar")
    }

    pub(crate) fn of(_: &str, _: Option<u64>) -> Self {
        unreachable!("nobody can ask for a bar")
    }

    pub(crate) fn expect(&self, _: u64) {
        match *self {}
    }

    pub(crate) fn advance(&self, _: u64) {
        match *self {}
    }

    pub(crate) fn finish(&self) {
        match *self {}
    }
}
