//! `narthex certs` and `narthex trust`: what the running process obtained, and whom clients of the internal authority believe.

use std::path::PathBuf;

use narthex_engine::{Source, obtain};

use crate::args::{CertsArgs, TrustArgs};
use crate::client::{ask, places};
use crate::commands::control::{field, unanswered};
use crate::exit::{Exit, complain, say, show};
use crate::serve::config_file;

/// Certificates of the running process.
pub fn certs(args: &CertsArgs) -> Exit {
    let places = places(&args.admin, args.config.as_deref());
    let accept = if args.json {
        "application/json"
    } else {
        "text/plain"
    };
    match ask(&places, "GET", "/certificates", accept, None) {
        Ok(answer) if answer.status == 200 => {
            say(&answer.body);
            Exit::Ok
        }
        Ok(answer) => {
            complain(field(&answer, "error"));
            Exit::No
        }
        Err(why) => unanswered(&why),
    }
}

/// The root of the internal authority.
pub fn trust(args: &TrustArgs) -> Exit {
    let storage = match &args.storage {
        Some(storage) => storage.clone(),
        None => match configured(args) {
            Ok(storage) => storage,
            Err(exit) => return exit,
        },
    };
    match obtain::trust(&storage) {
        Ok(Some(root)) => {
            say(root);
            Exit::Ok
        }
        Ok(None) => {
            complain(format!(
                "there is no internal authority in {} yet: it is made with the first certificate of a site with `tls \"internal\"`",
                storage.display()
            ));
            Exit::No
        }
        Err(why) => {
            complain(why);
            Exit::No
        }
    }
}

/// The storage that the configuration names.
fn configured(args: &TrustArgs) -> Result<PathBuf, Exit> {
    let outcome = Source::File(config_file(args.config.as_ref())?).examine();
    match &outcome.config {
        Some(config) => Ok(config.acme.storage.clone()),
        None => {
            show(&outcome.human);
            Err(if outcome.readable {
                Exit::No
            } else {
                Exit::Usage
            })
        }
    }
}
