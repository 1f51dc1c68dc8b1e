//! Text of others, made harmless: it must neither steer the terminal nor deceive the eye.
//!
//! What steers is shown as a picture (`ESC` as `␛`). What cannot be seen, or turns the direction of what can, is shown
//! by its number (`<U+202E>`). Marks that pile up on one letter are cut off. Joiners stay where a script or an emoji
//! needs them. Nothing is left out silently, and plain text comes through unchanged.

use std::fmt::Write;

use ratatui::buffer::CellWidth;

/// So many marks may stand on one letter: more than any script stacks, fewer than reach the line above.
const MARKS: usize = 6;

/// A text for one line: line breaks are shown as pictures.
pub(crate) fn line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut before = None;
    let mut marks = 0;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        show(c, before, rest.peek().copied(), &mut marks, &mut shown);
        before = Some(c);
    }
    shown
}

/// A text of several lines, each without its line break. Tabs become spaces.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = String> {
    text.split('\n').map(|text| line(text.strip_suffix('\r').unwrap_or(text)).replace('\t', TAB))
}

/// What a tab is shown as where columns are counted.
pub(crate) const TAB: &str = "    ";

/// JSON that says the same and is harmless to print: what would steer or deceive is written as `\uXXXX`.
pub(crate) fn json(json: &str) -> String {
    let mut harmless = String::with_capacity(json.len());
    for c in json.chars() {
        // Beyond ASCII, JSON has characters only inside of strings, where the two ways of writing are one.
        if picture(c).is_some() || is_hidden(c) || is_joiner(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(harmless, "\\u{unit:04x}");
            }
        } else {
            harmless.push(c);
        }
    }
    harmless
}

fn show(c: char, before: Option<char>, after: Option<char>, marks: &mut usize, shown: &mut String) {
    if let Some(picture) = picture(c) {
        *marks = 0;
        shown.push(picture);
    } else if is_hidden(c) || (is_joiner(c) && !joins(before, after)) {
        *marks = 0;
        let _ = write!(shown, "<U+{:04X}>", u32::from(c));
    } else if is_mark(c) {
        *marks += 1;
        match (before, *marks) {
            // A mark needs something to stand on, or it stands on what is not of this text.
            (None, _) => shown.extend(['\u{25cc}', c]),
            (Some(_), ..=MARKS) => shown.push(c),
            (Some(_), many) if many == MARKS + 1 => shown.push('\u{fffd}'),
            _ => {}
        }
    } else {
        if !is_joiner(c) {
            *marks = 0;
        }
        shown.push(c);
    }
}

/// Control characters and their pictures. A tab only moves on.
fn picture(c: char) -> Option<char> {
    match c {
        '\t' => None,
        '\u{0}'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)),
        '\u{7f}' => Some('\u{2421}'),
        '\u{80}'..='\u{9f}' => Some('\u{fffd}'),
        _ => None,
    }
}

/// Characters without a look of their own: directions, fillers, invisible operators, tags, noncharacters.
fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fdd0}'..='\u{fdef}'
        | '\u{fe00}'..='\u{fe0d}'
        | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
        || u32::from(c) & 0xfffe == 0xfffe
}

fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// Whether a joiner between these does what it is for.
fn joins(before: Option<char>, after: Option<char>) -> bool {
    let script = |c: char| {
        matches!(c, '\u{600}'..='\u{109f}' | '\u{1780}'..='\u{18af}' | '\u{1b00}'..='\u{1bff}'
            | '\u{a840}'..='\u{abff}' | '\u{fb50}'..='\u{fdcf}' | '\u{fe70}'..='\u{fefc}' | '\u{11000}'..='\u{11fff}')
    };
    let emoji = |c: char| matches!(c, '\u{2190}'..='\u{2bff}' | '\u{fe0f}' | '\u{1f000}'..='\u{1faff}');
    match (before, after) {
        (Some(before), Some(after)) => (script(before) && script(after)) || (emoji(before) && emoji(after)),
        // At the end of what is being typed.
        (Some(before), None) => script(before),
        _ => false,
    }
}

/// Whether a character takes no place of its own.
fn is_mark(c: char) -> bool {
    !c.is_ascii() && !is_joiner(c) && c.encode_utf8(&mut [0; 4]).cell_width() == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_text_of_all_scripts_is_unchanged() {
        for text in
            ["hello", "Grüße, naïve façade", "日本語テキスト", "👩‍👩‍👧‍👦 👍🏽 ❤️ 🇨🇭", "می‌خواهم", "क्‍ष", "e\u{301}", "a\tb"]
        {
            assert_eq!(line(text), text);
        }
    }

    #[test]
    fn what_steers_a_terminal_is_shown_as_a_picture() {
        assert_eq!(line("\u{1b}[31mred\u{7}\r\nnext\u{7f}"), "␛[31mred␇␍␊next␡");
        assert_eq!(line("\u{9b}2J"), "\u{fffd}2J", "the eight-bit CSI");
        assert_eq!(line("\u{1b}]0;title\u{7}"), "␛]0;title␇");
    }

    #[test]
    fn what_deceives_is_shown_by_its_number() {
        assert_eq!(line("txt.\u{202e}gpj"), "txt.<U+202E>gpj");
        assert_eq!(line("pay\u{200b}pal \u{feff}\u{2066}"), "pay<U+200B>pal <U+FEFF><U+2066>");
        assert_eq!(line("a\u{200d}b"), "a<U+200D>b", "a joiner that joins nothing");
        assert_eq!(line("\u{e0041}\u{ffff}"), "<U+E0041><U+FFFF>");
    }

    #[test]
    fn marks_do_not_pile_up_and_do_not_stand_on_what_is_not_theirs() {
        let pile = format!("z{}", "\u{301}".repeat(500));
        assert_eq!(line(&pile), format!("z{}\u{fffd}", "\u{301}".repeat(MARKS)));
        assert_eq!(line("\u{301}x"), "\u{25cc}\u{301}x");
    }

    #[test]
    fn lines_end_where_the_text_says() {
        assert_eq!(lines("one\r\ntwo\n\nthree\t.").collect::<Vec<_>>(), ["one", "two", "", "three    ."]);
    }

    proptest! {
        #[test]
        fn nothing_harmful_is_left(text in "(\\PC|\\p{C}|\u{1b}|\u{202e}|\u{301}|\u{200d}){0,60}") {
            let shown = line(&text);
            prop_assert!(!shown.chars().any(|c| (c.is_control() && c != '\t') || is_hidden(c)), "{:?}", shown);
        }

        #[test]
        fn json_says_the_same(text in "(\\PC|\\p{C}|\u{1b}|\u{9b}|\u{202e}){0,60}") {
            let plain = serde_json::to_string(&text).expect("a string");
            let harmless = json(&plain);
            prop_assert!(!harmless.chars().any(|c| c.is_control() || is_hidden(c)));
            prop_assert_eq!(serde_json::from_str::<String>(&harmless).expect("JSON"), text);
        }
    }
}
