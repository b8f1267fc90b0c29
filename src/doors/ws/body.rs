//! The body of a socket's response, in pieces that fit into the dispatcher's write buffer.
//!
//! That buffer grows with the largest piece it was ever given, and keeps up to 128 KiB for as long as the
//! connection lives. A snapshot or a burst would cost an idle connection that much.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;

/// With as much again before it, a piece still fits into the 8 KiB that the dispatcher's buffer has at first.
pub const PIECE: usize = 4 * 1024;

/// A body whose chunks are cut.
pub struct Pieces {
    body: BoxBody,
    /// What has not been handed on of a chunk.
    rest: Bytes,
}

impl Pieces {
    pub fn of(body: BoxBody) -> Self {
        Self { body, rest: Bytes::new() }
    }
}

impl MessageBody for Pieces {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_next(cx) {
                Poll::Ready(Some(Ok(chunk))) => self.rest = chunk,
                other => return other,
            }
        }
        let at = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(self.rest.split_to(at))))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::BodyStream;
    use futures_util::{future::poll_fn, stream};

    use super::*;

    #[actix::test]
    async fn chunks_of_any_size_come_in_pieces_and_whole() {
        let sizes = [1, PIECE - 1, PIECE, PIECE + 1, 10 * PIECE + 7];
        let chunks: Vec<Bytes> = sizes.iter().map(|size| vec![b'x'; *size].into()).collect();
        let all = stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>));
        let mut pieces = Pieces::of(BoxBody::new(BodyStream::new(all)));

        let mut sum = 0;
        while let Some(piece) = poll_fn(|cx| Pin::new(&mut pieces).poll_next(cx)).await {
            let piece = piece.unwrap();
            assert!((1..=PIECE).contains(&piece.len()));
            sum += piece.len();
        }

        assert_eq!(sum, sizes.iter().sum::<usize>());
    }
}
