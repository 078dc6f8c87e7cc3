//! Progress bars: on a terminal beside what functions print, and nowhere else.

use std::{
    fs::File,
    io::Read,
    num::NonZero,
    process::{Command, Stdio},
};

use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use tests::app;

const ROWS: u16 = 60;
const COLUMNS: u16 = 120;

fn size(n: u16) -> NonZero<u16> {
    NonZero::new(n).unwrap()
}

/// What the program writes to a terminal, and what is to be seen there after it has ended, line by line.
fn on_terminal(backend: &str) -> (String, Vec<String>) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    tcsetwinsize(&terminal, Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let end = open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let stream = || Stdio::from(end.try_clone().unwrap());
    let mut program = Command::new(app!());
    program.arg("progress").env("CRUCIAL_BACKEND", backend).env("TERM", "xterm").env_remove("NO_COLOR");
    let mut child = program.stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
    // The terminal ends when nobody has its other end any longer.
    drop((program, end));
    let mut terminal = File::from(terminal);
    let mut screen = vt100::Parser::new(size(ROWS), size(COLUMNS), 0);
    let (mut buffer, mut written) = ([0; 4096], Vec::new());
    while let Ok(count @ 1..) = terminal.read(&mut buffer) {
        screen.process(&buffer[..count]);
        written.extend_from_slice(&buffer[..count]);
    }
    assert!(child.wait().unwrap().success());
    let lines = screen.screen().rows(0, COLUMNS).map(|row| row.trim_end().to_owned()).collect();
    (String::from_utf8_lossy(&written).into_owned(), lines)
}

#[test]
fn a_bar_stays_below_what_processes_print() {
    let (written, screen) = on_terminal("processes");
    assert!(written.contains("greeting [") && written.contains("greeting again ["), "{written:?}");
    for n in 0..9 {
        for stream in ["out", "err"] {
            let said = format!("hello {n} {stream}");
            let is_line = |line: &&String| {
                line.strip_prefix("[process ")
                    .and_then(|rest| rest.split_once("] "))
                    .is_some_and(|(_, rest)| rest == said)
            };
            assert_eq!(screen.iter().filter(is_line).count(), 1, "{said} in {screen:#?}");
        }
    }
    // At its end, a line says what has been reached.
    let reached: Vec<_> = screen.iter().filter(|line| line.starts_with("greeting")).collect();
    let [first, second] = reached[..] else { panic!("{screen:#?}") };
    assert!(
        first.starts_with("greeting: 6 in ") && second.starts_with("greeting again: 3 in "),
        "{screen:#?}"
    );
    // They are all that there is.
    assert_eq!(screen.iter().filter(|line| !line.is_empty()).count(), 20, "{screen:#?}");
}

#[test]
fn there_is_no_bar_where_there_is_no_terminal() {
    for backend in ["threads", "processes"] {
        let output = Command::new(app!()).arg("progress").env("CRUCIAL_BACKEND", backend).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        for text in [output.stdout, output.stderr] {
            let text = String::from_utf8(text).unwrap();
            assert_eq!(text.lines().count(), 9, "{text}");
            assert!(!text.contains("greeting") && !text.contains('\u{1b}'), "{text:?}");
        }
    }
}
