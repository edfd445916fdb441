"""What outlives a process: unpacked trees and named layers, locked and safe against crashes."""
