//! A text that is put together from pieces of several files, and where each of its bytes was written.

use std::path::{Path, PathBuf};

use super::position::byte_at;
use super::refused::{Place, Refused};
use super::tokens::Span;

/// The text, and its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pieces {
    /// The text.
    pub text: String,
    /// The files that it is from, with their texts: first the one that was named.
    pub files: Vec<(PathBuf, String)>,
    /// In the order of the text. What is between two of them was written by nobody.
    pieces: Vec<Piece>,
}

/// What was taken from a file at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    /// Where it is in the whole text.
    whole: Span,
    /// The file, by its place in the list.
    file: usize,
    /// Its first byte in that file.
    from: usize,
}

impl Pieces {
    /// A file alone.
    pub fn of(path: &Path, text: &str) -> Self {
        let whole = Span { start: 0, end: text.len() };
        Self {
            text: text.to_owned(),
            files: vec![(path.to_owned(), text.to_owned())],
            pieces: vec![Piece { whole, file: 0, from: 0 }],
        }
    }

    /// Nothing yet, of these files.
    pub fn from(files: Vec<(PathBuf, String)>) -> Self {
        Self { files, ..Self::default() }
    }

    /// Adds what nobody wrote: a bracket, a comma.
    pub fn glue(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Adds a part of another text. Its files are from number `files` on in this one's list.
    pub fn take(&mut self, other: &Self, part: Span, files: usize) {
        let shift = self.text.len();
        self.text.push_str(&other.text[part.start..part.end]);
        let cut = other.pieces.iter().filter_map(|piece| {
            let (start, end) = (piece.whole.start.max(part.start), piece.whole.end.min(part.end));
            (start < end).then(|| Piece {
                whole: Span { start: start - part.start + shift, end: end - part.start + shift },
                file: piece.file + files,
                from: piece.from + (start - piece.whole.start),
            })
        });
        self.pieces.extend(cut);
    }

    /// Where a byte was written: the file, by its place in the list, and the byte in it. For one that nobody wrote, the end of
    /// what stands before it.
    pub fn origin(&self, byte: usize) -> (usize, usize) {
        let after = self.pieces.partition_point(|piece| piece.whole.start <= byte);
        match after.checked_sub(1).and_then(|index| self.pieces.get(index)) {
            Some(piece) => (piece.file, piece.from + (byte.min(piece.whole.end) - piece.whole.start)),
            None => (0, 0),
        }
    }

    /// A refusal of a part of the whole text, as one of the file that the part was written in.
    pub fn moved(&self, refused: Refused) -> Refused {
        let Some(place) = &refused.place else { return refused };
        let also = refused.also.iter().map(|also| self.moved(also.clone())).collect();
        let (file, start) = self.origin(byte_at(&self.text, place.position()));
        let Some((path, text)) = self.files.get(file) else { return refused };
        let end = text[start..].char_indices().nth(place.width as usize).map_or(text.len(), |(at, _)| start + at);
        let moved = Refused::at(path, text, Span { start, end }, "");
        let place = moved.place.map(|at| Box::new(Place { field: place.field.clone(), ..*at }));
        Refused { path: moved.path, place, also, ..refused }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_that_of_its_file() {
        let (a, b) = (Pieces::of(Path::new("a"), "0123456789"), Pieces::of(Path::new("b"), "abcdef"));
        let mut inner = Pieces::from([b.files.clone(), a.files.clone()].concat());
        inner.take(&b, Span { start: 1, end: 4 }, 0);
        inner.glue(", ");
        inner.take(&a, Span { start: 5, end: 8 }, 1);
        assert_eq!(inner.text, "bcd, 567");
        let mut outer = Pieces::from([a.files.clone(), inner.files.clone()].concat());
        outer.take(&a, Span { start: 9, end: 10 }, 0);
        outer.take(&inner, Span { start: 2, end: 7 }, 1);
        assert_eq!(outer.text, "9d, 56");
        let origins: Vec<_> = (0..outer.text.len()).map(|byte| outer.origin(byte)).collect();
        assert_eq!(origins, [(0, 9), (1, 3), (1, 4), (1, 4), (2, 5), (2, 6)]);
        assert_eq!(Pieces::default().origin(7), (0, 0));
    }
}
