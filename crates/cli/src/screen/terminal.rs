//! The terminal, taken while the screen is shown and given back however it ends: by a return, an error or a panic.

use std::io::{IsTerminal, Stdout, stdout};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{
    DisableBracketedPaste, DisableFocusChange, EnableBracketedPaste, EnableFocusChange, Event,
};
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::crossterm::{cursor, event, execute};
use ratatui::layout::{Position, Rect, Size};
use tokio::sync::mpsc;

use super::draw;
use super::state::{Input, State};

/// Whether a screen has the terminal.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Whether what is written to the standard error would land on the screen.
pub(crate) fn is_covered() -> bool {
    TAKEN.load(Ordering::Relaxed) && std::io::stderr().is_terminal()
}

/// A terminal that shows the screen. Dropped, it is as it was before.
pub(crate) struct Terminal {
    terminal: ratatui::Terminal<CrosstermBackend<Stdout>>,
}

impl Terminal {
    pub(crate) fn take() -> anyhow::Result<Self> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // First the terminal: the message is for a person to read.
            give_back();
            before(panic);
        }));
        TAKEN.store(true, Ordering::Relaxed);
        let taken = enable_raw_mode()
            .and_then(|()| {
                execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste, EnableFocusChange, cursor::Hide)
            })
            .and_then(|()| ratatui::Terminal::new(CrosstermBackend::new(stdout())));
        match taken {
            Ok(terminal) => Ok(Self { terminal }),
            Err(wrong) => {
                give_back();
                Err(wrong).context("the terminal")
            }
        }
    }

    pub(crate) fn size(&self) -> anyhow::Result<Size> {
        self.terminal.size().context("the terminal's size")
    }

    pub(crate) fn draw(&mut self, state: &State) -> anyhow::Result<()> {
        self.terminal.draw(|frame| draw::screen(state, frame)).context("the terminal")?;
        Ok(())
    }

    /// Draws everything anew, whatever others have written over it.
    pub(crate) fn clear(&mut self) -> anyhow::Result<()> {
        // Not `clear`, which asks the terminal where the cursor is and waits for an answer that the keyboard's thread
        // has taken.
        let screen = Rect::from((Position::ORIGIN, self.size()?));
        self.terminal.resize(screen).context("the terminal")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    if TAKEN.swap(false, Ordering::Relaxed) {
        // A terminal that is gone needs nothing.
        let _ = execute!(stdout(), DisableFocusChange, DisableBracketedPaste, LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
    }
}

/// What is typed, pasted and done to the terminal. A thread of its own, which a read that waits does not keep the
/// process for.
pub(crate) fn inputs(tell: mpsc::UnboundedSender<anyhow::Result<Input>>) {
    std::thread::spawn(move || {
        loop {
            let input = match event::read() {
                Ok(Event::Key(key)) => Ok(Input::Key(key)),
                Ok(Event::Paste(text)) => Ok(Input::Paste(text)),
                Ok(Event::Resize(width, height)) => Ok(Input::Resize(Size { width, height })),
                Ok(Event::FocusGained) => Ok(Input::Focus(true)),
                Ok(Event::FocusLost) => Ok(Input::Focus(false)),
                Ok(Event::Mouse(_)) => continue,
                Err(wrong) => Err(wrong).context("the keyboard"),
            };
            let ends = input.is_err();
            if tell.send(input).is_err() || ends {
                return;
            }
        }
    });
}
