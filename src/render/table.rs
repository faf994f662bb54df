//! Lists of tasks.

use unicode_width::UnicodeWidthStr;

use super::{Paint, View, ago, duration, fit, question_line, sanitize, status_paint, thousands, took, why};
use crate::command::Listing;
use crate::task::Task;

/// How much of a listing is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListLimits {
    /// Rows at most; 0: all.
    pub rows: usize,
    /// What the reader types to see more, e.g. "`octo tasks --limit N`".
    pub more: &'static str,
}

/// What a listing became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Active tasks shown.
    pub active: usize,
    /// Ended tasks shown.
    pub ended: usize,
}

impl ListLimits {
    /// Shares the rows between active and ended tasks: active ones first, but a quarter of the rows
    /// is kept for the newest ends.
    #[must_use]
    pub fn share(self, active: usize, ended: usize) -> Shown {
        if self.rows == 0 {
            return Shown { active, ended };
        }
        let kept = ended.min(self.rows / 4);
        let active = active.min(self.rows - kept);
        Shown { active, ended: ended.min(self.rows - active) }
    }
}

/// The table of a listing, each line ended; it says how to see what it leaves out.
#[must_use]
pub fn list(listing: &Listing, limits: ListLimits, view: &View) -> String {
    let shown = limits.share(listing.active.len(), listing.history.len());
    let rows: Vec<Row> = listing.active[..shown.active]
        .iter()
        .chain(&listing.history[..shown.ended])
        .map(|task| Row::of(task, view))
        .collect();
    if rows.is_empty() {
        return "no tasks\n".to_owned();
    }
    let widths = Widths::of(&rows);
    let mut out = String::new();
    for row in &rows {
        row.write(&widths, view, &mut out);
    }
    let total = listing.total.max(listing.history.len());
    let mut left = Vec::new();
    if listing.active.len() > shown.active {
        left.push(format!("{} more active", thousands((listing.active.len() - shown.active) as u64)));
    }
    if total > shown.ended {
        left.push(format!("{} more ended", thousands((total - shown.ended) as u64)));
    }
    if !left.is_empty() {
        let line = format!("… {}: {}", left.join(", "), limits.more);
        out.push_str(&view.paint(Paint::Dim, &line));
        out.push('\n');
    }
    out
}

struct Row<'a> {
    task: &'a Task,
    number: String,
    status: String,
    took: String,
    when: String,
    title: String,
}

#[derive(Default)]
struct Widths {
    number: usize,
    status: usize,
    took: usize,
    when: usize,
}

impl<'a> Row<'a> {
    fn of(task: &'a Task, view: &View) -> Self {
        let why = why(task);
        let when = task.completed_at.millis().filter(|_| task.status.is_ended());
        Row {
            task,
            number: format!("#{}", task.number),
            status: if why.is_empty() {
                task.status.word().to_owned()
            } else {
                format!("{} ({})", task.status, fit(&why, 20))
            },
            took: took(task, view.now).map(duration).unwrap_or_default(),
            when: when.map(|at| ago(view.now - at)).unwrap_or_default(),
            title: sanitize::line(task.title()),
        }
    }

    fn write(&self, w: &Widths, view: &View, out: &mut String) {
        let head =
            format!("{} {:<number$} {}  ", self.task.status.icon(), self.number, self.task.id, number = w.number);
        let status = format!("{:<width$}", self.status, width = w.status);
        let times = format!("  {:>took$}  {:>when$}  ", self.took, self.when, took = w.took, when = w.when);
        let used = head.width() + status.width() + times.width();
        let title =
            view.width.map_or_else(|| self.title.clone(), |all| fit(&self.title, all.saturating_sub(used).max(8)));
        let mut line = String::new();
        line.push_str(&head);
        line.push_str(&view.paint(status_paint(self.task.status), &status));
        line.push_str(&view.paint(Paint::Dim, &times));
        line.push_str(&title);
        out.push_str(line.trim_end());
        out.push('\n');
        if let Some(question) = self.task.questions.iter().find(|q| q.open) {
            let indent = w.number + 3;
            let text = question_line(question);
            let text = view.width.map_or(text.clone(), |all| fit(&text, all.saturating_sub(indent).max(8)));
            out.push_str(&format!("{:indent$}{}\n", "", view.paint(Paint::Yellow, &text)));
        }
    }
}

impl Widths {
    fn of(rows: &[Row]) -> Self {
        rows.iter().fold(Widths::default(), |w, row| Widths {
            number: w.number.max(row.number.width()),
            status: w.status.max(row.status.width()),
            took: w.took.max(row.took.width()),
            when: w.when.max(row.when.width()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{NOW, task};
    use super::*;
    use crate::task::Status;

    const LIMITS: ListLimits = ListLimits { rows: 20, more: "`octo tasks --limit N` (0 for all)" };

    fn listing() -> Listing {
        Listing {
            active: vec![task(12, Status::Running), task(9, Status::Paused), task(13, Status::Dispatched)],
            history: vec![
                task(11, Status::Completed),
                task(10, Status::Failed),
                task(8, Status::Cancelled),
                task(7, Status::Interrupted),
            ],
            next: None,
            total: 1200,
        }
    }

    #[test]
    fn a_list_on_a_narrow_terminal() {
        let view = View { width: Some(72), colour: false, now: NOW };
        insta::assert_snapshot!(list(&listing(), LIMITS, &view), @r#"
        ▶ #12 c4b1e012  running            2m 3s          make -C /srv/project1…
        ? #9  c4b1e009  paused (question)  2m 3s          make -C /srv/project9…
              Also refactor the helpers?  [yes / no]
        … #13 c4b1e013  dispatched                        make -C /srv/project1…
        ✓ #11 c4b1e011  completed          1m 3s  1m ago  make -C /srv/project1…
        ✗ #10 c4b1e010  failed (exit 2)    1m 3s  1m ago  make -C /srv/project1…
        ✗ #8  c4b1e008  cancelled          1m 3s  1m ago  make -C /srv/project8…
        ! #7  c4b1e007  interrupted        1m 3s  1m ago  make -C /srv/project7…
        … 1,196 more ended: `octo tasks --limit N` (0 for all)
        "#);
        let narrow = list(&listing(), LIMITS, &view);
        assert!(narrow.lines().take(7).all(|l| l.width() <= 72), "{narrow}");
    }

    #[test]
    fn a_list_for_a_pipe_is_whole_and_plain() {
        let mut nasty = task(14, Status::Running);
        nasty.name = "evil\x1b[2J\u{202e}name\nsecond line".to_owned();
        let listing = Listing { active: vec![nasty], ..Listing::default() };
        insta::assert_snapshot!(list(&listing, LIMITS, &View::plain(NOW)), @r#"
        ▶ #14 c4b1e014  running  2m 3s    evilname second line
        "#);
    }

    #[test]
    fn many_active_tasks_leave_room_for_the_newest_ends() {
        assert_eq!(LIMITS.share(100, 100), Shown { active: 15, ended: 5 });
        assert_eq!(LIMITS.share(3, 100), Shown { active: 3, ended: 17 });
        assert_eq!(LIMITS.share(100, 2), Shown { active: 18, ended: 2 });
        assert_eq!(ListLimits { rows: 0, ..LIMITS }.share(100, 200), Shown { active: 100, ended: 200 });
        assert_eq!(list(&Listing::default(), LIMITS, &View::plain(0)), "no tasks\n");
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        let view = View { width: Some(72), colour: true, now: NOW };
        assert!(list(&listing(), LIMITS, &view).contains("\x1b[31mfailed (exit 2)"));
    }
}
